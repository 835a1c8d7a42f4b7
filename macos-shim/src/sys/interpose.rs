//! The pairs that dyld reads: a function of ours, and the one of libSystem's that it takes the place
//! of. Calls from this library keep the original, so an entry point just calls it.

use core::ffi::c_void;

/// One pair (`__DATA,__interpose` of dyld).
#[repr(C)]
pub struct Tuple {
    pub replacement: *const c_void,
    pub original: *const c_void,
}

// SAFETY: two addresses of functions, which dyld relocates before any code runs and nobody changes.
unsafe impl Sync for Tuple {}

/// Entry points: for each name of a function its own, whose `$real` is the original of that name.
///
/// `["chmod"] (path: *const c_char, mode: mode_t) -> c_int, real => { … }`. With a `;` what follows it
/// are variadic arguments, which arm64 passes on the stack: `load` then takes the first of them from
/// there into the register that a fixed argument in its place would be in.
macro_rules! interpose {
    () => {};
    ($(#[$meta:meta])* [$($name:literal)+] ($($arg:ident: $type:ty),* ; $variadic:ident: $last:ty, $load:literal)
        -> $ret:ty, $real:ident => $body:block $($rest:tt)*) => {
        interpose!(@variadics [$($name)+] {$(#[$meta])*} ($($arg: $type),*) ($variadic: $last) $load $ret, $real $body);
        interpose!($($rest)*);
    };
    ($(#[$meta:meta])* [$($name:literal)+] ($($arg:ident: $type:ty),*) -> $ret:ty, $real:ident => $body:block $($rest:tt)*) => {
        interpose!(@fixed [$($name)+] {$(#[$meta])*} ($($arg: $type),*) $ret, $real $body);
        interpose!($($rest)*);
    };
    (@fixed [$($name:literal)+] $metas:tt $args:tt $ret:ty, $real:ident $body:block) => {
        $(interpose!(@one $name $metas $args $ret, $real $body);)+
    };
    (@variadics [$($name:literal)+] $metas:tt $args:tt $variadic:tt $load:literal $ret:ty, $real:ident $body:block) => {
        $(interpose!(@stack $name $metas $args $variadic $load $ret, $real $body);)+
    };
    (@one $name:literal {$(#[$meta:meta])*} ($($arg:ident: $type:ty),*) $ret:ty, $real:ident $body:block) => {
        $(#[$meta])*
        const _: () = {
            unsafe extern "C" {
                #[link_name = $name]
                fn original($($arg: $type),*) -> $ret;
            }
            unsafe extern "C" fn replacement($($arg: $type),*) -> $ret {
                #[allow(unused_variables, reason = "what is always refused has no use for it")]
                // SAFETY: the arguments are the caller's own, or what the entry point says of them.
                let $real = |$($arg: $type),*| unsafe { original($($arg),*) };
                $body
            }
            interpose!(@tuple replacement, original);
        };
    };
    (@stack $name:literal {$(#[$meta:meta])*} ($($arg:ident: $type:ty),*) ($variadic:ident: $last:ty) $load:literal $ret:ty, $real:ident $body:block) => {
        $(#[$meta])*
        const _: () = {
            unsafe extern "C" {
                #[link_name = $name]
                fn original($($arg: $type,)* ...) -> $ret;
            }
            unsafe extern "C" fn fixed($($arg: $type,)* $variadic: $last) -> $ret {
                // SAFETY: the arguments are the caller's own, or what the entry point says of them.
                let $real = |$($arg: $type,)* $variadic: $last| unsafe { original($($arg,)* $variadic) };
                $body
            }
            #[cfg(target_arch = "aarch64")]
            #[unsafe(naked)]
            unsafe extern "C" fn replacement() {
                core::arch::naked_asm!($load, "b {fixed}", fixed = sym fixed)
            }
            // There variadic arguments go where others do.
            #[cfg(target_arch = "x86_64")]
            use fixed as replacement;
            interpose!(@tuple replacement, original);
        };
    };
    (@tuple $replacement:ident, $original:ident) => {
        #[used]
        #[unsafe(link_section = "__DATA,__interpose,interposing")]
        static TUPLE: $crate::sys::interpose::Tuple = $crate::sys::interpose::Tuple {
            replacement: $replacement as *const core::ffi::c_void,
            original: $original as *const core::ffi::c_void,
        };
    };
}
pub(super) use interpose;

/// A function that fills a structure, in all its forms: `["stat", "stat64"; "stat$INODE64"]`. `Form` in
/// its arguments is `Plain` where the name has no suffix, else `Wide`, which has 64-bit inode numbers.
/// x86_64 alone has the last one; on arm64 the two structures are the same.
macro_rules! forms {
    ($([$plain:literal $(, $wide:literal)?; $inode64:literal] $args:tt, $real:ident => $body:block)*) => {$(
        forms!(@one {} Plain $plain $args $real $body);
        $(forms!(@one {} Wide $wide $args $real $body);)?
        forms!(@one {#[cfg(target_arch = "x86_64")]} Wide $inode64 $args $real $body);
    )*};
    (@one {$(#[$meta:meta])*} $form:ident $name:literal $args:tt $real:ident $body:block) => {
        $(#[$meta])*
        const _: () = {
            type Form = $form;
            interpose! { [$name] $args -> c_int, $real => $body }
        };
    };
}
pub(super) use forms;
