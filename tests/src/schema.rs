//! As much of JSON Schema as docs/trace.schema.json uses. Any other keyword fails the test that
//! meets it, so that nothing in the schema is silently passed over.

use serde_json::Value;

/// A schema and the definitions that it refers to.
#[derive(Debug)]
pub struct Schema {
    root: Value,
}

impl Schema {
    /// The schema of a line of a trace.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn of_traces() -> Schema {
        let text = include_str!("../../docs/trace.schema.json");
        Schema { root: serde_json::from_str(text).expect("the schema is JSON") }
    }

    /// What is wrong with `value`. Keys that the schema doesn't name are wrong too: it may be
    /// passed over by others, but here it says what is written.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.matches(&self.root, value, "line")
    }

    fn matches(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let Value::Object(rules) = schema else { return Err(format!("{at}: no schema: {schema}")) };
        for (keyword, rule) in rules {
            let good = match keyword.as_str() {
                "$schema" | "title" | "description" | "$defs" => true,
                "$ref" => {
                    let name = rule.as_str().and_then(|name| name.strip_prefix("#/$defs/"));
                    let defined = name.and_then(|name| self.root["$defs"].get(name));
                    let Some(defined) = defined else { return Err(format!("{at}: no {rule}")) };
                    self.matches(defined, value, at)?;
                    true
                }
                "oneOf" => {
                    let choices = rule.as_array().map(Vec::as_slice).unwrap_or_default();
                    let tried: Vec<_> =
                        choices.iter().map(|choice| self.matches(choice, value, at)).collect();
                    if tried.iter().filter(|one| one.is_ok()).count() != 1 {
                        return Err(format!("{at}: fits not exactly one of {tried:?}"));
                    }
                    true
                }
                "const" => value == rule,
                "enum" => rule.as_array().is_some_and(|all| all.contains(value)),
                "type" => match rule.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    _ => false,
                },
                "minimum" => value.as_i64() >= rule.as_i64(),
                "pattern" => value.as_str().is_some_and(|text| fits(rule, text)),
                "required" => {
                    let names = rule.as_array().map(Vec::as_slice).unwrap_or_default();
                    names.iter().all(|name| value.get(name.as_str().unwrap_or("")).is_some())
                }
                "properties" => {
                    for (key, inner) in value.as_object().into_iter().flatten() {
                        let Some(schema) = rule.get(key) else {
                            return Err(format!("{at}: the schema has no key {key}"));
                        };
                        self.matches(schema, inner, &format!("{at}.{key}"))?;
                    }
                    true
                }
                "additionalProperties" => rule == &Value::Bool(false),
                "items" => {
                    for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
                        self.matches(rule, inner, &format!("{at}[{i}]"))?;
                    }
                    true
                }
                other => return Err(format!("{at}: this test does not know {other}")),
            };
            if !good {
                return Err(format!("{at}: {keyword} {rule} does not hold for {value}"));
            }
        }
        Ok(())
    }
}

/// The patterns that the schema has.
fn fits(pattern: &Value, text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match pattern.as_str() {
        Some("^[0-9a-f]{64}$") => text.len() == 64 && hex(text),
        Some("^([0-9a-f]{2})*$") => text.len().is_multiple_of(2) && hex(text),
        Some("^(E[A-Z0-9]+|errno [0-9]+)$") => {
            text.starts_with('E') && !text.bytes().any(|b| b.is_ascii_lowercase())
                || text.strip_prefix("errno ").is_some_and(|n| n.parse::<u32>().is_ok())
        }
        other => panic!("this test does not know the pattern {other:?}"),
    }
}
