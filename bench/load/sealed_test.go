package load

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

var (
	innerFrom = netip.MustParseAddr("10.93.0.3")
	innerTo   = netip.MustParseAddrPort("10.92.0.2:5202")
)

// sealedPair is a session of ours, and the keys of the gateway at its other end.
func sealedPair(t *testing.T) (*session, *wireguard.Keypair) {
	t.Helper()
	var keys [2]wireguard.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = wireguard.GeneratePrivateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := wireguard.NewDevice(keys[1], wireguard.PlainPolicy(), rand.Reader, time.Now())
	if _, err := d.AddPeer(keys[0].Public(), wireguard.PresharedKey{}, wireguard.PeerConfig{ConnectionID: 9}, time.Now()); err != nil {
		t.Fatal(err)
	}
	answered := make(chan *wireguard.Keypair, 1)
	go func() { answered <- answer(conn, d) }()
	p := peering{
		key: base64.StdEncoding.EncodeToString(keys[0][:]), gatewayKey: d.PublicKey().String(),
		local: "127.0.0.1:0", gateway: conn.LocalAddr().String(),
	}
	s, err := p.dial(7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return s, <-answered
}

// answer is the gateway's part in one handshake.
func answer(conn *net.UDPConn, d *wireguard.Device) *wireguard.Keypair {
	buf := make([]byte, maxPayload)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil
	}
	d.HandleMessage(buf[:n], from, time.Now())
	var keys *wireguard.Keypair
	var out wireguard.Output
	for d.Drain(&out); ; d.Drain(&out) {
		for _, g := range out.Datagrams {
			if _, err := conn.WriteToUDPAddrPort(g.Bytes, from); err != nil {
				return nil
			}
		}
		for _, s := range out.NewSessions {
			keys = s.Keypair
		}
		if len(out.Jobs) == 0 {
			return keys
		}
		for _, j := range out.Jobs {
			d.HandleJob(j.Run(), time.Now())
		}
	}
}

// sealedBy is a message with a packet of the run.
func sealedBy(t *testing.T, k *wireguard.Keypair, payload int, f frame) []byte {
	t.Helper()
	tpl, err := newTemplate(innerFrom, innerTo, payload)
	if err != nil {
		t.Fatal(err)
	}
	m := make([]byte, len(tpl.plain)+wireguard.DataMinSize)
	tpl.put(m[wireguard.HeaderSize:], f)
	first, ok := k.Take(1)
	if !ok {
		t.Fatal("the key is used up")
	}
	var scratch wireguard.Scratch
	k.Seal(&scratch, [][]byte{m}, first)
	return m
}

func TestOpenerCountsWhatOpensAndFailsOtherwise(t *testing.T) {
	s, gateway := sealedPair(t)
	if s.keys == nil || gateway == nil || s.keys.RemoteIndex() != gateway.LocalIndex() {
		t.Fatal("the two ends are not of one session")
	}
	o := &opener{session: s, run: 7, payload: 64}
	for _, b := range [][]byte{
		sealedBy(t, gateway, 64, frame{run: 7}),  // opened: the first
		sealedBy(t, gateway, 64, frame{run: 7}),  // counted only
		sealedBy(t, gateway, 128, frame{run: 7}), // of another length
		sealedBy(t, s.keys, 64, frame{run: 7}),   // to another session
		make([]byte, wireguard.DataMinSize),
	} {
		if err := o.datagram(b, 1); err != nil {
			t.Error(err)
		}
	}
	if o.Packets != 2 || o.Bytes != 128 || o.delays != 1 {
		t.Errorf("%d packets with %d bytes, %d opened; want 2, 128, 1", o.Packets, o.Bytes, o.delays)
	}
	forged := sealedBy(t, gateway, 64, frame{run: 7})
	forged[wireguard.HeaderSize] ^= 1
	if err := (&opener{session: s, run: 7, payload: 64}).datagram(forged, 1); !errors.Is(err, errForged) {
		t.Errorf("a forged message: %v", err)
	}
	stray := sealedBy(t, gateway, 64, frame{run: 8})
	if err := (&opener{session: s, run: 7, payload: 64}).datagram(stray, 1); !errors.Is(err, errStranger) {
		t.Errorf("a packet of another run: %v", err)
	}
}

func TestFloodSealsPacketsOfAllFlows(t *testing.T) {
	s, gateway := sealedPair(t)
	tpl, err := newTemplate(innerFrom, innerTo, 1200)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFlood(s, tpl, sendConfig{run: 7, burst: 2 * flows})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.burst(); err != nil {
		t.Fatal(err)
	}
	if f.Packets+f.Refused != 2*flows {
		t.Errorf("sent %d and refused %d of %d", f.Packets, f.Refused, 2*flows)
	}
	var scratch wireguard.Scratch
	ok := []bool{false}
	for i, m := range f.cars {
		gateway.Open(&scratch, [][]byte{m}, []uint64{wireguard.Counter(m)}, ok)
		plain := m[wireguard.HeaderSize : len(m)-wireguard.TagSize][:innerHeaders+1200]
		got, framed := innerFrame(plain)
		if !ok[0] || !framed || got.run != 7 || got.seq != uint64(i%flows)<<flowShift|uint64(i) {
			t.Errorf("message %d: genuine %v, frame %+v", i, ok[0], got)
		}
		pseudo := packet.PseudoSum(innerFrom, innerTo.Addr(), protoUDP, udpHeaderLen+1200)
		if packet.Fold(packet.Sum(plain[:ip4HeaderLen], 0)) != 0xffff || packet.Fold(packet.Sum(plain[ip4HeaderLen:], pseudo)) != 0xffff {
			t.Errorf("message %d: wrong checksum", i)
		}
	}
}

func TestFlowsOvertakeEachOtherWithoutInversion(t *testing.T) {
	var a Arrivals
	for _, seq := range []uint64{1<<flowShift | 1, 0, 1<<flowShift | 3, 2, 1<<flowShift | 2} {
		a.order(seq)
	}
	if a.Inversions != 1 {
		t.Errorf("%d inversions, want 1", a.Inversions)
	}
}

func TestSegmentSizeIsTheKernels(t *testing.T) {
	oob := make([]byte, unix.CmsgSpace(4))
	oob[0], oob[8], oob[12], oob[16] = byte(unix.CmsgLen(4)), unix.SOL_UDP, unix.UDP_GRO, 92
	if got := segmentSize(oob, 1000); got != 92 {
		t.Errorf("%d, want 92", got)
	}
	oob[12]++
	if got := segmentSize(oob, 1000); got != 1000 {
		t.Errorf("%d by another message, want 1000", got)
	}
	if got := segmentSize(nil, 0); got != 1 {
		t.Errorf("%d for an empty datagram, want 1", got)
	}
}

func TestTrainsArriveAsDatagrams(t *testing.T) {
	s, a := transfer(t, sendConfig{run: 11, payload: 64, burst: 16, length: 20 * time.Millisecond, trains: true})
	if s.Packets == 0 || s.Packets%16 != 0 || a.Packets == 0 || a.Packets > s.Packets || a.Bytes != 64*a.Packets {
		t.Errorf("sent %d, got %d with %d bytes", s.Packets, a.Packets, a.Bytes)
	}
}

func TestImpossiblePeeringsAreRefused(t *testing.T) {
	c := sendConfig{to: innerTo.String(), payload: 64, burst: 1, peer: peering{
		inner: innerFrom.String(), local: "127.0.0.1:0", gateway: "127.0.0.1:9", key: "short", gatewayKey: "short",
	}}
	if _, err := seal(c); err == nil {
		t.Error("sealed with a key that is none")
	}
	c.payload = frameLen - 1
	if _, err := seal(c); err == nil {
		t.Error("sealed a payload that cannot hold its frame")
	}
	c.payload, c.burst = 64, maxBurst+1
	if _, err := seal(c); err == nil {
		t.Error("sealed a burst beyond the greatest")
	}
}
