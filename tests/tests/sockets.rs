//! Unix sockets with names in a writable mount, beside a plain directory.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use vrift_tests::{World, need, skip};

    /// Says what each call says, in the directory that it is given. No process id and no inode is
    /// told, so that two runs say the same.
    const SCRIPT: &str = r#"
import os, socket, stat, struct, sys
os.chdir(sys.argv[1])
os.umask(0o027)
here = os.getcwd()

def say(what, call):
    try:
        print(what, call())
    except OSError as e:
        print(what, e.errno)

def name(address):
    return address.replace(here, 'HERE') if isinstance(address, str) else address

server = socket.socket(socket.AF_UNIX)
say('bind', lambda: server.bind('sock'))
say('again', lambda: socket.socket(socket.AF_UNIX).bind('sock'))
say('own', lambda: name(server.getsockname()))
say('mode', lambda: oct(os.lstat('sock').st_mode))
say('refused', lambda: socket.socket(socket.AF_UNIX).connect('sock'))
server.listen()
for path in ['sock', here + '/sock', '../' + os.path.basename(here) + '/sock']:
    client = socket.socket(socket.AF_UNIX)
    say('connect', lambda: client.connect(path))
    say('peer', lambda: name(client.getpeername()))
    side, _ = server.accept()
    cred = struct.unpack('3i', side.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    print('cred', cred[0] == os.getpid(), cred[1] == os.getuid())
    client.send(b'text')
    print('got', side.recv(9))
os.rename('sock', 'moved')
client = socket.socket(socket.AF_UNIX)
say('moved', lambda: client.connect('moved'))
say('peer', lambda: name(client.getpeername()))
os.unlink('moved')
say('gone', lambda: socket.socket(socket.AF_UNIX).connect('moved'))
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say('datagram', lambda: datagram.bind(here + '/dgram'))
say('own', lambda: name(datagram.getsockname()))
say('wrong type', lambda: socket.socket(socket.AF_UNIX).connect('dgram'))
say('a file', lambda: socket.socket(socket.AF_UNIX).connect('file'))
say('no such directory', lambda: socket.socket(socket.AF_UNIX).bind('none/sock'))
say('in a file', lambda: socket.socket(socket.AF_UNIX).bind('file/sock'))
os.mkdir('closed', 0o555)
if os.getuid():
    say('no right', lambda: socket.socket(socket.AF_UNIX).bind('closed/sock'))
longest = 'x' * 107
say('longest', lambda: socket.socket(socket.AF_UNIX).bind(longest))
print(sorted(os.listdir('.')))
"#;

    #[test]
    fn sockets_in_an_overlay_are_those_of_a_plain_directory() {
        let name = "sockets_in_an_overlay_are_those_of_a_plain_directory";
        let python = need!(name, skip::program("python3"));
        let world = World::new();
        world.file("tree/file", "text\n");
        world.ingest(world.path("tree"), "t");
        let at = world.path("p");
        let words = |dir: &Path| {
            [python.as_os_str(), "-c".as_ref(), SCRIPT.as_ref(), dir.as_os_str()]
                .map(ToOwned::to_owned)
        };
        let native = world.native(words(&world.path("tree"))).run().ok().out();
        let projected = world.trace(&[(&at, "t,mode=overlay")], words(&at)).run().ok().out();
        assert!(native.contains("own sock\n") && native.contains("got b'text'"), "{native}");
        assert_eq!(native, projected);
    }
}
