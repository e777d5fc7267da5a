//! From registers and copied stack to the addresses of the frames.

/// A frame of compiled code.
#[derive(Clone, Debug)]
pub(super) struct NativeFrame {
    /// The address that was being run, within the call: of all frames but the innermost one byte before where it returns to.
    pub address: u64,
    /// The stack pointer in this frame, by which frames of a runtime are put in their places.
    pub sp: u64,
    /// The model's frames at that address, inlined ones first; at least one.
    pub frames: Vec<crate::model::Frame>,
}
