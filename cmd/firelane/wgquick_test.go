package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestToolsDriveIt lets wg-quick bring up two interfaces that are each other's peer, wg look at
// them and change them, and wg-quick take them down.
func TestToolsDriveIt(t *testing.T) {
	tools := newTools(t)
	tools.must("ip", "link", "set", "lo", "up")
	a, b := newKey(t), newKey(t)
	tools.config("wga", a, "10.9.0.1", 1001, b, "10.9.0.2", 1002)
	tools.config("wgb", b, "10.9.0.2", 1002, a, "10.9.0.1", 1001)
	tools.must("wg-quick", "up", "./wga.conf")
	tools.must("wg-quick", "up", "./wgb.conf")

	await(t, "handshake", func() bool {
		return !strings.HasSuffix(tools.must("wg", "show", "wga", "latest-handshakes"), "\t0\n")
	})
	peer := encode(b.PublicKey().Bytes())
	tools.must("wg", "set", "wga", "peer", peer, "allowed-ips", "10.9.0.2/32,fd00::/64", "persistent-keepalive", "off")
	dump := strings.Split(tools.must("wg", "show", "wga", "dump"), "\n")
	wantDevice := strings.Join([]string{encode(a.Bytes()), encode(a.PublicKey().Bytes()), "1001", "off"}, "\t")
	if dump[0] != wantDevice {
		t.Error("wg reports another device than was configured")
	}
	f := strings.Split(dump[1], "\t")
	if len(f) != 8 || f[0] != peer || f[2] != "127.0.0.1:1002" || f[3] != "10.9.0.2/32,fd00::/64" || f[5] == "0" || f[6] == "0" || f[7] != "off" {
		t.Errorf("wg reports the peer as %q", f)
	}

	if out, err := tools.run("wg", "set", "wga", "listen-port", "1002"); err == nil || !strings.Contains(out, "Address already in use") {
		t.Errorf("a port in use gives %v, %q", err, out)
	}
	for _, name := range []string{"wga", "wgb"} {
		pid := answering(t, name)
		tools.must("wg-quick", "down", "./"+name+".conf")
		if code, err := reap(pid); err != nil || code != 0 {
			t.Errorf("%s: ended with %v, code %d", name, err, code)
		}
		if _, err := net.InterfaceByName(name); err == nil {
			t.Errorf("interface %s is still there", name)
		}
	}
}

// tools run in a folder that holds their configuration, and find the program as firelane-wg.
type tools struct {
	t   *testing.T
	dir string
}

func newTools(t *testing.T) tools {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, wgName)); err != nil {
		t.Fatal(err)
	}
	return tools{t: t, dir: dir}
}

func (x tools) run(args ...string) (string, error) {
	c := exec.CommandContext(x.t.Context(), args[0], args[1:]...)
	c.Dir = x.dir
	c.Env = append(os.Environ(), envProgram+"=1", promptEnd(), "WG_QUICK_USERSPACE_IMPLEMENTATION="+wgName, "PATH="+x.dir+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	return string(out), err
}

func (x tools) must(args ...string) string {
	x.t.Helper()
	out, err := x.run(args...)
	if err != nil {
		x.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// config writes the configuration of an interface with one peer on this machine.
func (x tools) config(name string, key *ecdh.PrivateKey, addr string, port int, peer *ecdh.PrivateKey, peerAddr string, peerPort int) {
	x.t.Helper()
	text := fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/24\nListenPort = %d\n"+
		"[Peer]\nPublicKey = %s\nAllowedIPs = %s/32\nEndpoint = 127.0.0.1:%d\nPersistentKeepalive = 1\n",
		encode(key.Bytes()), addr, port, encode(peer.PublicKey().Bytes()), peerAddr, peerPort)
	if err := os.WriteFile(filepath.Join(x.dir, name+".conf"), []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

func newKey(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
