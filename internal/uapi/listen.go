package uapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/ipc"
)

// ErrInUse says that another process answers on the socket.
var ErrInUse = errors.New("another process answers on it")

// SocketPath returns where the configuration socket of the named interface lies, which is
// where wg(8) looks for it.
func SocketPath(name string) string {
	return filepath.Join(socketDirectory, name+".sock")
}

// socketDirectory is fixed by wg(8), and by the ipc package.
const socketDirectory = "/var/run/wireguard"

// Open makes the configuration socket of the named interface, for root alone, and returns it
// open for Listen. A socket that nobody answers on is replaced; one that is answered gives
// ErrInUse. The process's umask is changed for a moment.
func Open(name string) (*os.File, error) {
	path := SocketPath(name)
	if name == "" || strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("make configuration socket %s: bad interface name", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("make configuration socket %s: %w", path, ErrInUse)
	}
	f, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, fmt.Errorf("make configuration socket %s: %w", path, err)
	}
	return f, nil
}

// ErrRemoved says that somebody removed or replaced the file of a socket being listened on.
var ErrRemoved = errors.New("its file was removed")

// Listen returns a listener on a socket from Open, or inherited from another process, and
// closes f. Accept fails with ErrRemoved when somebody removes the socket's file, which is how
// tools ask a user-space WireGuard to end; Close removes it.
func Listen(name string, f *os.File) (net.Listener, error) {
	defer f.Close()
	path := SocketPath(name)
	inner, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on configuration socket %s: %w", path, err)
	}
	if u, ok := inner.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the file may be another process's by then
	}
	l := &listener{Listener: inner, path: path, ended: make(chan struct{})}
	l.closing = sync.OnceValue(l.close)
	if err := l.watch(); err != nil {
		inner.Close()
		return nil, fmt.Errorf("watch configuration socket %s: %w", path, err)
	}
	return l, nil
}

// listener is a listener on a unix socket that fails when the socket's file is gone.
type listener struct {
	net.Listener
	path    string
	file    os.FileInfo   // the file as it was found
	events  *os.File      // inotify
	removed atomic.Bool   // why Listener was closed
	ended   chan struct{} // closed when the watching goroutine has ended
	closing func() error
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && l.removed.Load() {
		err = ErrRemoved
	}
	return c, err
}

// Close removes the socket's file if it is still ours, and waits until nothing of the listener
// runs any more. A call beside another one waits for it: between finding the file and removing it
// the path could have become that of a new socket.
func (l *listener) Close() error { return l.closing() }

func (l *listener) close() error {
	l.events.Close()
	<-l.ended
	if l.present() {
		os.Remove(l.path)
	}
	return l.Listener.Close()
}

// watch starts the goroutine that waits for the end of the file.
func (l *listener) watch() error {
	file, err := os.Lstat(l.path)
	if err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	l.file, l.events = file, os.NewFile(uintptr(fd), "inotify")
	// The link count of the file is an attribute of it; its own deletion is an event only when
	// the last descriptor is closed.
	const mask = unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	if _, err := unix.InotifyAddWatch(fd, l.path, mask); err != nil {
		l.events.Close()
		return err
	}
	go l.wait()
	return nil
}

// wait returns when the file is gone or events is closed.
func (l *listener) wait() {
	defer close(l.ended)
	var event [unix.SizeofInotifyEvent + unix.NAME_MAX + 1]byte
	for l.present() {
		if _, err := l.events.Read(event[:]); err != nil {
			return
		}
	}
	l.removed.Store(true)
	l.Listener.Close()
}

// present reports whether the socket's file is the one that was found.
func (l *listener) present() bool {
	file, err := os.Lstat(l.path)
	return err == nil && os.SameFile(file, l.file)
}
