package uapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWriteState(t *testing.T) {
	s := State{
		PrivateKey: keyA, ListenPort: 51820, FirewallMark: 7,
		Peers: []PeerState{
			{
				PublicKey: keyB, PresharedKey: keyA, Endpoint: netip.MustParseAddrPort("[fd00::1]:9"),
				LastHandshake: time.Unix(12, 34), RxBytes: 1<<64 - 1, TxBytes: 2, PersistentKeepalive: 25,
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")},
			},
			{PublicKey: keyA},
		},
	}
	lowB := "bb" + hexB[2:]
	want := "private_key=" + hexA + "\nlisten_port=51820\nfwmark=7\n" +
		"public_key=" + lowB + "\npreshared_key=" + hexA + "\nprotocol_version=1\nendpoint=[fd00::1]:9\n" +
		"last_handshake_time_sec=12\nlast_handshake_time_nsec=34\ntx_bytes=2\nrx_bytes=18446744073709551615\n" +
		"persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\n" +
		"public_key=" + hexA + "\npreshared_key=" + zero + "\nprotocol_version=1\n" +
		"last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\n"
	var b bytes.Buffer
	if err := WriteState(&b, s); err != nil || b.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := WriteState(&b, State{}); err != nil || b.Len() != 0 {
		t.Errorf("an empty state gives %v, %q", err, b.String())
	}
}

func TestWriteErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{syscall.EADDRINUSE, -98},
		{fmt.Errorf("bind: %w", syscall.EINVAL), -22},
		{&SyntaxError{Line: 1}, -22},
		{errors.New("anything"), -5},
		{syscall.Errno(0), -5},
	} {
		var b bytes.Buffer
		if err := WriteErrno(&b, c.err); err != nil || b.String() != fmt.Sprintf("errno=%d\n\n", c.want) {
			t.Errorf("%v: got %v, %q, want %d", c.err, err, b.String(), c.want)
		}
	}
}

func TestRequestsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Request{Op: Get}
		if rapid.Bool().Draw(t, "set") {
			want = Request{Op: Set, Config: drawConfig(t)}
		}
		var b bytes.Buffer
		if err := WriteRequest(&b, want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRequest(bufio.NewReader(&b))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestWriteRequestRefusesAnUnknownOperation(t *testing.T) {
	if err := WriteRequest(&bytes.Buffer{}, Request{}); err == nil {
		t.Error("want an error")
	}
}

func drawConfig(t *rapid.T) Config {
	c := Config{
		PrivateKey:   (*Key)(drawKey(t, "private")),
		ListenPort:   rapid.Ptr(rapid.Uint16(), true).Draw(t, "port"),
		FirewallMark: rapid.Ptr(rapid.Uint32(), true).Draw(t, "mark"),
		ReplacePeers: rapid.Bool().Draw(t, "replace"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "peers") {
		c.Peers = append(c.Peers, drawPeer(t))
	}
	return c
}

func drawPeer(t *rapid.T) PeerConfig {
	p := PeerConfig{
		Remove:              rapid.Bool().Draw(t, "remove"),
		UpdateOnly:          rapid.Bool().Draw(t, "update"),
		PresharedKey:        (*Key)(drawKey(t, "preshared")),
		PersistentKeepalive: rapid.Ptr(rapid.Uint16(), true).Draw(t, "keepalive"),
		ReplaceAllowedIPs:   rapid.Bool().Draw(t, "replaceIPs"),
	}
	copy(p.PublicKey[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "public"))
	if rapid.Bool().Draw(t, "hasEndpoint") {
		p.Endpoint = netip.AddrPortFrom(drawAddr(t).Unmap(), rapid.Uint16Min(1).Draw(t, "endpointPort"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "ips") {
		a := drawAddr(t)
		prefix, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		p.AllowedIPs = append(p.AllowedIPs, AllowedIP{Prefix: prefix, Remove: rapid.Bool().Draw(t, "take")})
	}
	return p
}

func drawAddr(t *rapid.T) netip.Addr {
	n := rapid.SampledFrom([]int{4, 16}).Draw(t, "family")
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address"))
	return a
}

func drawKey(t *rapid.T, name string) *[32]byte {
	if !rapid.Bool().Draw(t, "has "+name) {
		return nil
	}
	return (*[32]byte)(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
}
