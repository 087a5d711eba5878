package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/internal/uapi"
)

// endsWithin is how long the program may take to end.
const endsWithin = time.Second

func TestSignalsEndIt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := foreground(t, program(t, nil, "firelane", "wg", "-f", "wg0"), "wg0")
			p.signal(sig)
			p.ended()
		})
	}
}

func TestRemovingTheInterfaceEndsIt(t *testing.T) {
	p := foreground(t, program(t, nil, "firelane-wg", "-f", "wg0"), "wg0")
	link, err := netlink.LinkByName("wg0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	p.ended()
}

func TestRemovingTheSocketEndsIt(t *testing.T) {
	p := foreground(t, program(t, nil, "firelane", "wg", "-f", "wg0"), "wg0")
	if err := os.Remove(uapi.SocketPath("wg0")); err != nil {
		t.Fatal(err)
	}
	p.ended()
}

func TestBackground(t *testing.T) {
	for _, args := range [][]string{
		{"firelane", "wg", "wg0"},
		{"firelane-wg", "wg0"},
		{"firelane", "wg", "--no-gso", "--no-gro", "--no-tso", "--no-uso", "--queues", "3", "--pin", "--no-raise-limits", "wg0"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if out, err := program(t, nil, args...).CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v: %s", err, out)
			}
			// Interface and socket are there once the command returns, not some time later.
			if _, err := net.InterfaceByName("wg0"); err != nil {
				t.Fatal(err)
			}
			pid := answering(t, "wg0")
			if line := refused(t, program(t, nil, args...), exitFailed); !strings.Contains(line, "interface wg0 is in use") {
				t.Errorf("a second one says %s", line)
			}
			p := process{t: t, name: "wg0", pid: pid, stderr: new(bytes.Buffer), wait: func() (int, error) { return reap(pid) }}
			p.signal(syscall.SIGTERM)
			p.ended()
		})
	}
}

func TestDescriptorsFromOutside(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			nameFile := t.TempDir() + "/name"
			l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: uapi.SocketPath("given0")})
			if err != nil {
				t.Fatal(err)
			}
			socket, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
			tunnel := openTun(t, "given0")
			c := program(t, []string{"WG_TUN_FD=4", "WG_UAPI_FD=3", "WG_TUN_NAME_FILE=" + nameFile}, "firelane", "wg", mode, "other0")
			c.ExtraFiles = []*os.File{socket, tunnel}
			var stderr bytes.Buffer
			c.Stderr = &stderr
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			socket.Close()
			tunnel.Close()
			p := process{t: t, name: "given0", pid: c.Process.Pid, stderr: &stderr, wait: func() (int, error) { return 0, c.Wait() }}
			if mode != "--foreground" {
				if err := c.Wait(); err != nil {
					t.Fatalf("%v: %s", err, &stderr)
				}
				p.pid = running(t, "other0")
				p.wait = func() (int, error) { return reap(p.pid) }
			}
			await(t, "an answer", func() bool { return ask("given0") == nil })
			if name, err := os.ReadFile(nameFile); err != nil || string(name) != "given0\n" {
				t.Errorf("name file: %q, %v", name, err)
			}
			p.signal(syscall.SIGTERM)
			p.ended()
		})
	}
}

// process is a running program under test.
type process struct {
	t      *testing.T
	name   string // of its interface
	pid    int
	stderr *bytes.Buffer // to be read after wait
	wait   func() (code int, err error)
}

// foreground starts c and waits until interface name is there and answers.
func foreground(t *testing.T, c *exec.Cmd, name string) *process {
	t.Helper()
	p := &process{t: t, name: name, stderr: new(bytes.Buffer), wait: func() (int, error) { return 0, c.Wait() }}
	c.Stderr = p.stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = c.Process.Pid
	await(t, "an answer", func() bool { return ask(name) == nil })
	return p
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		p.t.Fatal(err)
	}
}

// ended waits for the end, which must come soon, be quiet and leave nothing behind.
func (p *process) ended() {
	p.t.Helper()
	since := time.Now()
	code, err := p.wait()
	if took := time.Since(since); took > endsWithin {
		p.t.Errorf("took %v to end, want %v", took, endsWithin)
	}
	if err != nil || code != 0 || p.stderr.Len() > 0 {
		p.t.Errorf("ended with %v, code %d, saying %q", err, code, p.stderr)
	}
	if _, err := net.InterfaceByName(p.name); err == nil {
		p.t.Errorf("interface %s is still there", p.name)
	}
	if _, err := os.Stat(uapi.SocketPath(p.name)); !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("socket: %v, want it gone", err)
	}
}

// ask sends a get request to the configuration socket and reads the answer.
func ask(name string) error {
	c, err := net.Dial("unix", uapi.SocketPath(name))
	if err != nil {
		return err
	}
	defer c.Close()
	return exchange(c)
}

func exchange(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := uapi.WriteRequest(c, uapi.Request{Op: uapi.Get}); err != nil {
		return err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !strings.HasSuffix(string(answer), "errno=0\n\n") {
		err = errors.New(string(answer))
	}
	return err
}

// answering returns the process that answers on the configuration socket.
func answering(t *testing.T, name string) int {
	t.Helper()
	c, err := net.Dial("unix", uapi.SocketPath(name))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		t.Fatal(err, credErr)
	}
	if err := exchange(c); err != nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}

// running returns the one process with an argument in its command line.
func running(t *testing.T, arg string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !slices.Contains(strings.Split(string(line), "\x00"), arg) {
			continue // ended meanwhile, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 1 {
		t.Fatalf("want one process for %s, got %v", arg, pids)
	}
	return pids[0]
}

// reap waits, for a limited time, for a process that went to the background.
func reap(pid int) (code int, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		if err != nil {
			return 0, err
		}
		if got == pid {
			return status.ExitStatus(), nil
		}
	}
	return 0, errors.New("does not end")
}

// openTun opens a TUN interface as another program would.
func openTun(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// await waits until ok holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}
