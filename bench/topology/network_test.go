package topology

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// leftovers are the namespaces, sockets and files on this machine that carry the pid.
func leftovers(t *testing.T, pid int) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		filepath.Join(namespaceDir, fmt.Sprintf("%s%d-*", prefix, pid)),
		filepath.Join(socketDir, fmt.Sprintf("fl[gc]%dx*", pid)),
		filepath.Join(fileDir, fmt.Sprintf("%s%d-*", prefix, pid)),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func newNetwork(t *testing.T, cfg Config) *Network {
	t.Helper()
	n, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if left := leftovers(t, os.Getpid()); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return n
}

// build builds a program for the test.
func build(t *testing.T, pkg string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func ping(t *testing.T, n *Network, from Host, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := n.Run(ctx, from, nil, "ping", "-n", "-c", "1", "-w", "10", to); err != nil {
		t.Errorf("%v does not reach %s: %v\n%s", from, to, err, out)
	}
}

func TestNetworkConnectsNeighboursAndLeavesNothing(t *testing.T) {
	n := newNetwork(t, Config{MTU: 1280})
	ping(t, n, Client, GatewayOuter.V4.Addr().String())
	ping(t, n, Client, GatewayOuter.V6.Addr().String())
	ping(t, n, Server, GatewayLAN.V4.Addr().String())
	ping(t, n, Server, GatewayLAN.V6.Addr().String())
	p, err := n.Start(Server, Spec{Argv: []string{"ping", "-n", "-q", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if ended, _ := p.Ended(); !ended {
		t.Error("a process has survived its network")
	}
}

func TestTunnelCarriesBothFamiliesOverEither(t *testing.T) {
	wg := Command{Name: "wireguard-go", Argv: []string{build(t, "golang.zx2c4.com/wireguard")}}
	for name, outer6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) { testTunnel(t, wg, outer6) })
	}
}

func testTunnel(t *testing.T, wg Command, outer6 bool) {
	n := newNetwork(t, Config{MTU: 1420, Outer6: outer6})
	for _, h := range []Host{Gateway, Client} {
		if err := n.StartTunnel(t.Context(), h, wg); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Await(t.Context(), ServerLAN.V4.Addr()); err != nil {
		t.Fatal(err)
	}
	ping(t, n, Client, ServerLAN.V6.Addr().String())
	ping(t, n, Server, ClientInner.V6.Addr().String())
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n.Tunnel(Gateway).PID()))
	if err != nil || exe != wg.Argv[0] {
		t.Errorf("the gateway's process is %q (%v), want %q", exe, err, wg.Argv[0])
	}
}

func TestTunnelThatEndsAtOnceSaysWhy(t *testing.T) {
	n := newNetwork(t, Config{MTU: 1280})
	err := n.StartTunnel(t.Context(), Gateway, Command{Name: "broken", Argv: []string{"sh", "-c", "echo no such thing >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("got %v, want what the process wrote", err)
	}
}

func TestSweepTakesOnlyWhatTheDeadHaveLeft(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	own := newNetwork(t, Config{MTU: 1280})
	orphan := fmt.Sprintf("%s%d-1-client", prefix, dead.Process.Pid)
	err := onThread(func() error {
		ns, err := netns.NewNamed(orphan)
		if err != nil {
			return err
		}
		return ns.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fileDir, fmt.Sprintf("%s%d-1-policy.json", prefix, dead.Process.Pid)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, dead.Process.Pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if !slices.Contains(leftovers(t, os.Getpid()), filepath.Join(namespaceDir, own.name(Client))) {
		t.Error("the sweep took a living owner's namespace")
	}
}

func TestOutputEndsWithItsContext(t *testing.T) {
	n := newNetwork(t, Config{MTU: 1280})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p, err := n.Start(Server, Spec{Argv: []string{"ping", "-n", "-q", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Output(ctx); err == nil {
		t.Error("no error from a process that was cut short")
	}
	if ended, _ := p.Ended(); !ended {
		t.Error("the process goes on")
	}
}

func TestListeningLooksAtPortAndState(t *testing.T) {
	const tcp = "  sl  local_address rem_address   st tx_queue\n" +
		"   0: 00000000:1451 00000000:0000 0A 00000000:00000000\n" +
		"   1: 0100007F:1452 0100007F:9999 01 00000000:00000000\n"
	if !listening(tcp, "tcp", 5201) {
		t.Error("a listening socket is not seen")
	}
	if listening(tcp, "tcp", 5202) {
		t.Error("a connected socket counts as listening")
	}
	if listening(tcp, "udp", 5201) {
		t.Error("a state of TCP counts for UDP")
	}
}
