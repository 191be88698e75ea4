//! The kinds of entry point.

/// A kind of entry point: every way the server calls into the module.
/// `Load` cannot be armed: nothing can reach the module before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callback {
    Command,
    Keys,
    RdbLoad,
    RdbSave,
    AofRewrite,
    MemUsage,
    Digest,
    Free,
    FreeEffort,
    Copy,
    Defrag,
    Config,
    Info,
    Event,
    Unlink,
    AuxSave,
    AuxLoad,
    Timer,
    WaitEnd,
    Disconnect,
    Ready,
    Scan,
    Worker,
    HandOver,
    Load,
}

impl Callback {
    #[cfg(debug_assertions)]
    pub const ALL: [Self; 24] = [
        Self::Command,
        Self::Keys,
        Self::RdbLoad,
        Self::RdbSave,
        Self::AofRewrite,
        Self::MemUsage,
        Self::Digest,
        Self::Free,
        Self::FreeEffort,
        Self::Copy,
        Self::Defrag,
        Self::Config,
        Self::Info,
        Self::Event,
        Self::Unlink,
        Self::AuxSave,
        Self::AuxLoad,
        Self::Timer,
        Self::WaitEnd,
        Self::Disconnect,
        Self::Ready,
        Self::Scan,
        Self::Worker,
        Self::HandOver,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Keys => "keys",
            Self::RdbLoad => "rdb_load",
            Self::RdbSave => "rdb_save",
            Self::AofRewrite => "aof_rewrite",
            Self::MemUsage => "mem_usage",
            Self::Digest => "digest",
            Self::Free => "free",
            Self::FreeEffort => "free_effort",
            Self::Copy => "copy",
            Self::Defrag => "defrag",
            Self::Config => "config",
            Self::Info => "info",
            Self::Event => "event",
            Self::Unlink => "unlink",
            Self::AuxSave => "aux_save",
            Self::AuxLoad => "aux_load",
            Self::Timer => "timer",
            Self::WaitEnd => "wait_end",
            Self::Disconnect => "disconnect",
            Self::Ready => "ready",
            Self::Scan => "scan",
            Self::Worker => "worker",
            Self::HandOver => "hand_over",
            Self::Load => "load",
        }
    }
}
