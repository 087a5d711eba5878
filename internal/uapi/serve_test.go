package uapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// device is a Handler that remembers what it was asked to set.
type device struct {
	mu   sync.Mutex
	sets []Config
	fail error
}

func (d *device) Get() State { return State{ListenPort: 7} }

func (d *device) Set(c Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sets = append(d.sets, c)
	return d.fail
}

var quiet = slog.New(slog.DiscardHandler)

// serve serves h on l until the test ends, and returns how to end it earlier.
func serve(t *testing.T, l net.Listener, h Handler) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, quiet) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Serve does not return")
		}
	})
	t.Cleanup(func() { stop() })
	return stop
}

func ask(t *testing.T, path, text string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	c.(*net.UnixConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestServeAnswers(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{fail: fmt.Errorf("bind: %w", syscall.EADDRINUSE)}
	stop := serve(t, l, d)
	for _, c := range []struct{ name, text, want string }{
		{"a get", "get=1\n\n", "listen_port=7\nerrno=0\n\n"},
		{"the handler's errno", "set=1\nfwmark=1\n\n", "errno=-98\n\n"},
		{"several requests", "get=1\n\nset=1\nbad\nfwmark=1\n\nget=1\n\n", "listen_port=7\nerrno=0\n\nerrno=-22\n\nlisten_port=7\nerrno=0\n\n"},
		{"half a request", "set=1\nfwmark=1\n", ""},
	} {
		if got := ask(t, path, c.text); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if len(d.sets) != 1 {
		t.Errorf("the handler was asked to set %d times, want 1", len(d.sets))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServeEndsWithOpenConnections(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, l, &device{})
	for range maxConns + 1 { // the last has no place
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	name := fmt.Sprintf("fltest%d", os.Getpid())
	before := runtime.NumGoroutine()
	l := listen(t, name)
	stop := serve(t, l, &device{})

	info, err := os.Stat(SocketPath(name))
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("socket: %v, %v, want one for its owner alone", info, err)
	}
	if got := ask(t, SocketPath(name), "get=1\n\n"); got != "listen_port=7\nerrno=0\n\n" {
		t.Errorf("got %q", got)
	}
	if _, err := Open(name); !errors.Is(err, ErrInUse) {
		t.Errorf("a second process gets %v, want ErrInUse", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(SocketPath(name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end the socket is there: %v", err)
	}
	await(t, "goroutines left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	name := fmt.Sprintf("fltest%d", os.Getpid())
	if err := os.MkdirAll(socketDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	// A socket nobody answers on is what a process that is killed leaves behind.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: SocketPath(name)})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Stat(SocketPath(name)); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, listen(t, name), &device{})
	if got := ask(t, SocketPath(name), "get=1\n\n"); !strings.HasSuffix(got, "errno=0\n\n") {
		t.Errorf("got %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServeEndsWhenTheSocketIsRemoved(t *testing.T) {
	name := fmt.Sprintf("fltest%d", os.Getpid())
	before := runtime.NumGoroutine()
	l := listen(t, name)
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), l, &device{}, quiet) }()
	if err := os.Chmod(SocketPath(name), 0o770); err != nil { // no reason to end
		t.Fatal(err)
	}
	if got := ask(t, SocketPath(name), "get=1\n\n"); !strings.HasSuffix(got, "errno=0\n\n") {
		t.Errorf("after a change of its mode the socket answers %q", got)
	}
	if err := os.Remove(SocketPath(name)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, ErrRemoved) {
			t.Errorf("got %v, want ErrRemoved", err)
		}
	case <-time.After(patience):
		t.Error("Serve does not return")
	}
	await(t, "goroutines left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestOpenRefusesNamesThatArePaths(t *testing.T) {
	for _, name := range []string{"", "../x", "/etc/x"} {
		if _, err := Open(name); err == nil || !strings.Contains(err.Error(), "bad interface name") {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func listen(t *testing.T, name string) net.Listener {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(name, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// await waits until ok holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s after %v", what, patience)
		}
	}
}

// Serve closes its listener from two goroutines when it is told to end. The later one must not
// remove the socket that somebody has made meanwhile.
func TestClosesAtOnceRemoveOneFile(t *testing.T) {
	name := fmt.Sprintf("fltest%d", os.Getpid())
	for range 200 {
		l := listen(t, name)
		other := make(chan error, 1)
		go func() { other <- l.Close() }()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		next := listen(t, name)
		if err := <-other; err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(SocketPath(name)); err != nil {
			t.Fatalf("the next socket: %v", err)
		}
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
