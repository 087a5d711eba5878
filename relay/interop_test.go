package relay

import (
	"bytes"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"
)

// coturn's STUN client learns its address.
func TestCoturnsClientGetsItsAddress(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	for _, server := range []string{"127.0.0.1", "::1"} {
		out, err := exec.Command("timeout", "10", "turnutils_stunclient", "-p", strconv.Itoa(int(r.Port())), server).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "reflexive addr: ") || !strings.Contains(string(out), server) {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// pion's client allocates, binds a channel and sends a peer data, which come back. What it sends
// over indications before its channel is bound goes nowhere.
func TestPionsClientCarriesDataOnceItsChannelIsBound(t *testing.T) {
	enterNetns(t)
	r := start(t, func(s *Settings) {
		users, err := Users("", map[string]string{"user": "password"})
		if err != nil {
			t.Fatal(err)
		}
		s.Server.Credentials = users
	})
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server := relayAt(loop4, r).String()
	client, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: server, TURNServerAddr: server, Conn: conn,
		Username: "user", Password: "password", Realm: DefaultRealm, LoggerFactory: &logging.DefaultLoggerFactory{}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	if mapped, err := client.SendBindingRequest(); err != nil || mapped.String() != conn.LocalAddr().String() {
		t.Errorf("mapped address %v, %v", mapped, err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	if ip := relayed.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); ip != public4 {
		t.Errorf("relayed address %v", ip)
	}
	echo(t)(relayed)
	if err := relayed.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); r.Counters().ActiveAllocations.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the allocation stays")
		}
	}
}

// echo opens a peer that returns what it gets, and returns a check that a connection's data do
// come back from it.
func echo(t *testing.T) func(net.PacketConn) {
	t.Helper()
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(buf[:n], from)
		}
	}()
	return func(c net.PacketConn) {
		want, got := pattern(1200, 1), make([]byte, 2048)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if _, err := c.WriteTo(want, peer.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if n, _, err := c.ReadFrom(got); err == nil {
				if !bytes.Equal(got[:n], want) {
					t.Fatalf("%d other bytes came back", n)
				}
				return
			}
		}
		t.Fatal("nothing comes back")
	}
}
