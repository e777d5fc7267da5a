//! Go programs as the go tool makes them, running, with the kernel side at work.

use super::super::Runtime;
use super::*;
use crate::bpf::Unavailable;
use crate::ledger::hooks::{Hooks, SendHook};
use crate::ledger::raw::Registers;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/go/dial.go");

/// `struct target` and where its runtime begins, `struct stack` before what the runtime took, and before the stack itself.
const TARGET_WORDS: usize = 71;
const TARGET_RUNTIME: usize = 38;
const STACK_HEAD_BYTES: usize = 48;
const STACK_AT: usize = STACK_HEAD_BYTES + 2048;

/// Ways to build it: flags, and whether it is stripped of its sections beside.
const BUILDS: [(&str, &[&str], bool); 5] = [
    ("plain", &[], false),
    ("stripped", &["-ldflags=-s -w"], false),
    ("anywhere", &["-buildmode=pie", "-ldflags=-s -w"], false),
    ("static", &["-ldflags=-s -w -linkmode=external -extldflags=-static", "-tags=netgo,osusergo"], false),
    ("sectionless", &["-ldflags=-s -w"], true),
];

struct Program {
    child: Child,
    answers: BufReader<ChildStdout>,
    process: Process,
    _listener: TcpListener,
}

/// Builds it into `folder`; `None` where that can't be done here.
fn build(folder: &Path, flags: &[&str], sectionless: bool) -> Option<PathBuf> {
    let program = folder.join("dial");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).args(flags).arg(SOURCE).env("CGO_ENABLED", "1").env("GO111MODULE", "off");
    let built = match go.output() {
        Ok(built) => built,
        Err(why) => {
            eprintln!("SKIPPED: go: {why}");
            return None;
        }
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    if sectionless {
        let mut bytes = std::fs::read(&program).expect("reads");
        bytes[40..48].fill(0);
        bytes[58..64].fill(0);
        std::fs::write(&program, bytes).expect("writes");
    }
    Some(program)
}

impl Program {
    fn start(program: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let port = listener.local_addr().expect("has one").port().to_string();
        let mut child =
            Command::new(program).arg(port).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let answers = BufReader::new(child.stdout.take().expect("is piped"));
        let process = Process::open(Path::new("/proc"), child.id()).expect("is there");
        let mut program = Program { child, answers, process, _listener: listener };
        program.answer("ready");
        program.process = Process::open(Path::new("/proc"), program.child.id()).expect("is there");
        program
    }

    fn answer(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("answers");
        assert_eq!(line.trim(), expected);
    }

    fn act(&mut self, what: &str) {
        writeln!(self.child.stdin.as_ref().expect("is piped"), "{what}").expect("hears");
        self.answer("done");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn watch(hooks: &Hooks, program: &Program, go: &dyn Runtime) {
    let mut target = [0_u64; TARGET_WORDS];
    target[TARGET_RUNTIME] = u64::from(go.number());
    for (word, bytes) in target[TARGET_RUNTIME + 1..].iter_mut().zip(go.settings().chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("eight"));
    }
    hooks.targets.update(&program.child.id(), &target).expect("is told");
}

/// The stacks that have come, of the process.
fn stacks(hooks: &mut Hooks) -> Vec<RawStack> {
    let mut stacks = Vec::new();
    while let Some(record) = hooks.stacks.next() {
        let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().expect("eight"));
        let registers = Registers { ip: word(8), sp: word(16), bp: word(24), lr: 0 };
        let count = word(40) as u32 as usize;
        stacks.push(RawStack {
            registers,
            stack: record[STACK_AT..STACK_AT + count].to_vec(),
            is_cut: true,
            runtime: record[STACK_HEAD_BYTES..STACK_AT].to_vec(),
        });
    }
    stacks
}

/// `function:line` of the frames of the program's own file, and of the rest the functions; how they lead to the ones before them.
fn told(frames: &[Frame]) -> Vec<String> {
    let told = frames.iter().map(|frame| {
        let function = frame.function.as_deref().unwrap_or("?");
        match frame.file.as_deref() {
            Some(SOURCE) => format!("{} {function}:{}", frame.via.name(), frame.line.unwrap_or_default()),
            _ => format!("{} {function}", frame.via.name()),
        }
    });
    told.collect()
}

/// The number of the line that has this text.
fn line(text: &str) -> usize {
    let source = std::fs::read_to_string(SOURCE).expect("reads");
    source.lines().position(|line| line.contains(text)).expect("is there") + 1
}

#[test]
fn a_goroutine_tells_who_runs_and_who_started_it() {
    for (name, flags, sectionless) in BUILDS {
        let folder = tempfile::tempdir().expect("makes");
        let Some(program) = build(folder.path(), flags, sectionless) else { return };
        let mut hooks = match Hooks::attach(SendHook::Auto) {
            Ok(hooks) => hooks,
            Err(why @ Unavailable::Other(_)) => panic!("{why}"),
            Err(why) => return eprintln!("SKIPPED: {why}"),
        };
        let mut program = Program::start(&program);
        let mut go = find(&program.process).unwrap_or_else(|| panic!("{name} is Go"));
        watch(&hooks, &program, &*go);
        let mut act = |what: &str| {
            program.act(what);
            let stacks = stacks(&mut hooks);
            assert_eq!(stacks.len(), 1, "{name}: {what}");
            let (frames, why) = go.weave(&program.process, &stacks[0], Vec::new());
            (told(&frames), why)
        };

        let (frames, why) = act("inlined");
        assert_eq!(why, None);
        let from = frames.iter().position(|frame| frame.contains("main.dial")).expect("is there");
        let expected = [
            format!("call main.dial:{}", line("net.Dial(")),
            format!("call main.(*pool).get:{}", line("return dial(p.address)")),
            format!("inlined main.exportReport:{}", line("p.get()")),
            format!("created main.main:{}", line("go exportReport(p, done)")),
        ];
        assert_eq!(frames[from..], expected, "{name}");
        let enters = ["call runtime/internal/syscall.Syscall6", "call syscall.RawSyscall6"];
        assert_eq!(frames[..2], enters, "{name}: {frames:#?}");
        assert!(frames.iter().any(|frame| frame.ends_with(" net.Dial")), "{name}: {frames:#?}");

        let (frames, why) = act("deep");
        assert_eq!(why.as_deref(), Some("the goroutine's stack is deeper than the 64 frames that are taken"));
        assert!(frames.iter().filter(|frame| frame.starts_with("call main.descend:")).count() > 40, "{frames:#?}");
        // What is cut off doesn't take the creator with it.
        assert_eq!(frames.last(), Some(&format!("created main.main:{}", line("go descend("))), "{name}");

        let (frames, why) = act("c");
        assert_eq!(why, None);
        let expected = [
            "call main._Cfunc_dial".to_owned(),
            format!("call main.dialByC:{}", line("C.dial(")),
            format!("created main.main:{}", line("go dialByC(port, done)")),
        ];
        assert_eq!(frames[frames.len() - 3..], expected, "{name}");
    }
}

/// Bytes at addresses, as no program has them.
struct Junk(Vec<u8>);

impl memory::Memory for Junk {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let at = usize::try_from(address.checked_sub(JUNK_AT)?).ok()?;
        into.copy_from_slice(self.0.get(at..at.checked_add(into.len())?)?);
        Some(())
    }
}

/// Where it stands.
const JUNK_AT: u64 = 0x40_0000;

proptest::proptest! {
    #[test]
    fn junk_behind_a_header_says_nothing_and_ends(
        magic in proptest::sample::select(vec![0xffff_fffa_u32, 0xffff_fff0, 0xffff_fff1]),
        mut words in proptest::collection::vec(0_u32..0x4000, 4096),
        address in JUNK_AT..JUNK_AT + 0x8000,
    ) {
        words[..2].copy_from_slice(&[magic, 0x0801_0000]);
        // The upper halves of the header's words are none, so that what follows is read at all.
        words.iter_mut().skip(3).step_by(2).take(9).for_each(|word| *word = 0);
        let junk = Junk(words.iter().flat_map(|word| word.to_le_bytes()).collect());
        let memory = Pages::of(&junk);
        if let Some(mut table) = table::Table::read(&memory, JUNK_AT, Some(JUNK_AT)) {
            table.data = Some(JUNK_AT);
            assert!(table.places(&memory, address).len() <= 64);
            let _ = table.find(&memory, ["gogo"]);
        }
    }
}
