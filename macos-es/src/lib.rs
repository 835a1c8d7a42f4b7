//! macOS: the Endpoint Security client and the shim, over the same policy and projection as on
//! Linux. Nothing is built here yet; the crate holds the place in the workspace so that the
//! dependency direction (`macos-es → projection → store`, all `→ policy`) is fixed from the start.
