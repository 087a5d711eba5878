package netnstest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/firelane/firelane/internal/uapi"
)

// tunnel is a running WireGuard program and its interface. Its inner addresses are 10.99.0.n
// and fd99::n.
type tunnel struct {
	*host
	name    string
	n       int
	pub     string // base64
	keyFile string
	port    int

	cmd    *exec.Cmd
	exited chan error
	log    string // path of its standard error
	ours   bool
	ended  bool
}

// start starts a WireGuard program on a host; its interface is up, with key, port and inner
// addresses, and without peers. It is stopped and looked over with the test.
func start(h *host, n int, program string, args ...string) *tunnel {
	h.t.Helper()
	dir := h.t.TempDir()
	x := &tunnel{host: h, n: n, port: 51820 + n, log: filepath.Join(dir, "stderr"), ours: program == firelaneWG}
	x.identify(dir)
	h.t.Cleanup(func() {
		if !x.ended {
			x.stop()
		}
	})
	x.launch(program, args...)
	return x
}

// identify gives the interface its name, and a key in a file of dir.
func (x *tunnel) identify(dir string) {
	x.t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	x.try(err)
	x.name, x.keyFile = fmt.Sprintf("wg%d", x.n), filepath.Join(dir, "key")
	x.pub = encode(key.PublicKey().Bytes())
	x.try(os.WriteFile(x.keyFile, []byte(encode(key.Bytes())), 0o600))
}

func startOurs(h *host, n int, args ...string) *tunnel {
	h.t.Helper()
	return start(h, n, firelaneWG, args...)
}

func startTheirs(h *host, n int) *tunnel {
	h.t.Helper()
	return start(h, n, wireguardGo)
}

// launch starts the program, again if it has ended.
func (x *tunnel) launch(program string, args ...string) {
	x.t.Helper()
	stderr, err := os.OpenFile(x.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	x.try(err)
	defer stderr.Close()
	x.cmd = exec.Command(program, append(append([]string{"-f"}, args...), x.name)...)
	x.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "LOG_LEVEL=error")
	if x.ours {
		x.cmd.Env = append(x.cmd.Env, "LOG_LEVEL=debug")
	}
	x.cmd.Stderr = stderr
	x.try(x.within(x.cmd.Start))
	cmd, exited := x.cmd, make(chan error, 1)
	x.exited, x.ended = exited, false
	go func() { exited <- cmd.Wait() }()
	x.configure()
}

// configure waits for the interface and gives it what a tunnel has.
func (x *tunnel) configure() {
	x.t.Helper()
	await(x.t, 10*time.Second, "answer from "+x.name, func() bool {
		// Not by wg(8), which removes a socket that is not listening yet.
		c, err := net.Dial("unix", uapi.SocketPath(x.name))
		return err == nil && c.Close() == nil
	})
	x.set("private-key", x.keyFile, "listen-port", strconv.Itoa(x.port))
	x.addAddr(x.name, fmt.Sprintf("10.99.0.%d/24", x.n), fmt.Sprintf("fd99::%d/64", x.n))
	x.setUp(x.name)
	x.awaitAddr(x.addr6())
}

// set is `wg set`.
func (x *tunnel) set(args ...string) {
	x.t.Helper()
	x.must(append([]string{"wg", "set", x.name}, args...)...)
}

// peer adds y as a peer, with its inner addresses and an endpoint unless that is empty.
func (x *tunnel) peer(y *tunnel, endpoint string, more ...string) {
	x.t.Helper()
	args := []string{"peer", y.pub, "allowed-ips", y.addr4() + "/32," + y.addr6() + "/128"}
	if endpoint != "" {
		args = append(args, "endpoint", endpoint)
	}
	x.set(append(args, more...)...)
}

func (x *tunnel) addr4() string { return fmt.Sprintf("10.99.0.%d", x.n) }
func (x *tunnel) addr6() string { return fmt.Sprintf("fd99::%d", x.n) }

// at returns the endpoint of the tunnel at one of its host's outer addresses.
func (x *tunnel) at(outer string) string { return net.JoinHostPort(outer, strconv.Itoa(x.port)) }

// traffic returns the bytes received from and sent to the one peer, as wg reports them.
func (x *tunnel) traffic() (received, sent int64) {
	x.t.Helper()
	out := x.must("wg", "show", x.name, "transfer")
	var key string
	if _, err := fmt.Sscan(out, &key, &received, &sent); err != nil {
		x.t.Fatalf("transfer %q: %v", out, err)
	}
	return received, sent
}

// handshake returns when the latest handshake with the one peer was.
func (x *tunnel) handshake() time.Time {
	x.t.Helper()
	f := strings.Fields(x.must("wg", "show", x.name, "latest-handshakes"))
	if len(f) != 2 {
		x.t.Fatalf("latest handshakes %q", f)
	}
	s, err := strconv.ParseInt(f[1], 10, 64)
	x.try(err)
	return time.Unix(s, 0)
}

// endpoint returns the endpoint of the one peer.
func (x *tunnel) endpoint() string {
	x.t.Helper()
	f := strings.Fields(x.must("wg", "show", x.name, "endpoints"))
	if len(f) != 2 {
		x.t.Fatalf("endpoints %q", f)
	}
	return f[1]
}

// kill ends the program without a chance to say good-bye.
func (x *tunnel) kill() {
	x.t.Helper()
	x.try(x.cmd.Process.Kill())
	<-x.exited
	x.ended = true
}

// stopsWithin is how long a program may take to end.
const stopsWithin = time.Second

// stop ends the program, which must be prompt and leave nothing behind. It returns the counters
// of ours that are not zero.
func (x *tunnel) stop() map[string]int {
	x.t.Helper()
	x.ended = true
	began := time.Now()
	if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		x.t.Errorf("%s has ended before it should: %v", x.name, err)
	}
	select {
	case err := <-x.exited:
		if err != nil && x.ours {
			x.t.Errorf("%s ended with %v", x.name, err)
		}
	case <-time.After(10 * time.Second):
		x.cmd.Process.Kill()
		x.t.Errorf("%s does not end", x.name)
	}
	if !x.ours {
		return nil
	}
	if took := time.Since(began); took > stopsWithin {
		x.t.Errorf("%s took %v to end, want %v", x.name, took, stopsWithin)
	}
	if _, err := x.links.LinkByName(x.name); !errors.As(err, new(netlink.LinkNotFoundError)) {
		x.t.Errorf("interface %s after the end: %v", x.name, err)
	}
	if _, err := os.Stat(uapi.SocketPath(x.name)); !errors.Is(err, os.ErrNotExist) {
		x.t.Errorf("configuration socket of %s after the end: %v", x.name, err)
	}
	return x.readLog()
}

// readLog looks for complaints in the program's log and returns the counters at its end.
func (x *tunnel) readLog() map[string]int {
	x.t.Helper()
	log, err := os.ReadFile(x.log)
	x.try(err)
	for _, bad := range []string{"level=ERROR", "DATA RACE", "panic:", "fatal error:"} {
		if bytes.Contains(log, []byte(bad)) {
			x.t.Errorf("%s logs %q:\n%s", x.name, bad, log)
		}
	}
	counters := map[string]int{}
	for line := range strings.Lines(string(log)) {
		_, figures, found := strings.Cut(line, `msg="data plane ended" `)
		if !found {
			continue
		}
		for _, f := range strings.Fields(figures) {
			name, value, _ := strings.Cut(f, "=")
			if n, err := strconv.Atoi(value); err == nil {
				counters[name[strings.LastIndex(name, ".")+1:]] += n
			}
		}
	}
	return counters
}

// memory returns the program's resident memory in bytes and its number of open descriptors.
func (x *tunnel) memory() (resident, descriptors int) {
	x.t.Helper()
	dir := fmt.Sprintf("/proc/%d", x.cmd.Process.Pid)
	status, err := os.ReadFile(dir + "/status")
	x.try(err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &resident); err != nil {
		x.t.Fatalf("VmRSS: %v", err)
	}
	fds, err := os.ReadDir(dir + "/fd")
	x.try(err)
	return resident << 10, len(fds)
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// pskFile writes a new preshared key and returns its path.
func pskFile(t testing.TB) string {
	t.Helper()
	var b [32]byte
	rand.Read(b[:])
	path := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(path, []byte(encode(b[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
