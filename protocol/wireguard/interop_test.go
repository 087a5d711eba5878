package wireguard_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/firelane/firelane/protocol/wireguard"
	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// ours is a Device of ours with a driver on the real clock, connected in memory to wireguard-go.
type ours struct {
	t        *testing.T
	device   *wireguard.Device
	peer     *wireguard.Peer
	bind     conn.Bind
	incoming chan []byte
	live     map[uint32]*wireguard.Keypair
	windows  map[uint32]*wireguard.Window
	act      wireguard.Activity
	scratch  aead.Scratch
	packets  [][]byte // plaintexts received, keepalives excepted
	kinds    [5]int   // messages received
	roamed   netip.AddrPort
}

var (
	ourAddr   = netip.MustParseAddr("100.64.0.1")
	theirAddr = netip.MustParseAddr("100.64.0.2")
	source    = netip.MustParseAddrPort("127.0.0.1:1")
	patience  = 20 * time.Second
)

// newInterop connects a device of ours with wireguard-go.
func newInterop(t *testing.T, policy wireguard.Policy, psk wireguard.PresharedKey) (*ours, *tuntest.ChannelTUN) {
	t.Helper()
	key := func() wireguard.PrivateKey {
		k, err := wireguard.GeneratePrivateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	mine, theirs := key(), key()
	binds := bindtest.NewChannelBinds()
	tunnel := tuntest.NewChannelTUN()
	them := device.NewDevice(tunnel.TUN(), binds[0], device.NewLogger(device.LogLevelSilent, ""))
	t.Cleanup(them.Close)
	public := mine.Public()
	config := fmt.Sprintf("private_key=%s\nlisten_port=0\nreplace_peers=true\npublic_key=%s\npreshared_key=%s\nendpoint=127.0.0.1:1\nallowed_ip=%s/32\n",
		hex.EncodeToString(theirs[:]), hex.EncodeToString(public[:]), hex.EncodeToString(psk[:]), ourAddr)
	if err := them.IpcSet(config); err != nil {
		t.Fatal(err)
	}
	if err := them.Up(); err != nil {
		t.Fatal(err)
	}
	o := &ours{
		t: t, bind: binds[1], incoming: make(chan []byte, 64),
		device: wireguard.NewDevice(mine, policy, rand.Reader, time.Now()),
		live:   map[uint32]*wireguard.Keypair{}, windows: map[uint32]*wireguard.Window{},
	}
	peer, err := o.device.AddPeer(theirs.Public(), psk, wireguard.PeerConfig{ConnectionID: 0xabcdef}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.peer = peer
	o.listen()
	return o, tunnel
}

// listen forwards what wireguard-go sends, until the bind is closed.
func (o *ours) listen() {
	fns, _, err := o.bind.Open(0)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		if err := o.bind.Close(); err != nil {
			o.t.Error(err)
		}
	})
	for _, receive := range fns {
		go func() {
			bufs, sizes, eps := [][]byte{make([]byte, 2048)}, make([]int, 1), make([]conn.Endpoint, 1)
			for {
				if _, err := receive(bufs, sizes, eps); err != nil {
					return
				}
				o.incoming <- bytes.Clone(bufs[0][:sizes[0]])
			}
		}()
	}
}

func (o *ours) transmit(msg []byte) {
	if err := o.bind.Send([][]byte{msg}, bindtest.ChannelEndpoint(2)); err != nil {
		o.t.Fatal(err)
	}
}

// until drives the device until cond holds.
func (o *ours) until(what string, cond func() bool) {
	o.t.Helper()
	end := time.Now().Add(patience)
	for {
		o.drain()
		if cond() {
			return
		}
		now := time.Now()
		if now.After(end) {
			o.t.Fatalf("%s did not happen", what)
		}
		wait := end.Sub(now)
		if at, ok := o.device.NextTimeout(); ok {
			wait = min(wait, max(0, at.Sub(now)))
		}
		select {
		case msg := <-o.incoming:
			o.receive(msg, time.Now())
		case <-time.After(wait):
			now := time.Now()
			for _, p := range o.device.Due(now) {
				p.Observe(o.act, now)
			}
			o.device.HandleTimeout(now)
		}
	}
}

func (o *ours) drain() {
	var out wireguard.Output
	for {
		o.device.Drain(&out)
		for _, n := range out.NewSessions {
			o.live[n.Keypair.LocalIndex()] = n.Keypair
			o.windows[n.Keypair.LocalIndex()] = new(wireguard.Window)
			o.roamed = n.Endpoint
			if n.Confirmed {
				o.seal(nil)
			}
		}
		for _, d := range out.Datagrams {
			o.transmit(d.Bytes)
		}
		for range out.Keepalives {
			o.seal(nil)
		}
		for _, j := range out.Jobs {
			o.device.HandleJob(j.Run(), time.Now())
		}
		if len(out.Jobs) == 0 {
			return
		}
	}
}

func (o *ours) seal(packet []byte) {
	k := o.peer.Current()
	first, ok := k.Take(1)
	if !ok {
		o.t.Fatal("no counter")
	}
	msg := make([]byte, aead.Overhead+(len(packet)+15)/16*16)
	copy(msg[wireguard.HeaderSize:], packet)
	k.Seal(&o.scratch, [][]byte{msg}, first)
	o.act.Sent = time.Now()
	o.transmit(msg)
}

func (o *ours) receive(msg []byte, now time.Time) {
	kind := wireguard.Kind(msg)
	o.kinds[kind]++
	if kind != wireguard.KindData {
		o.device.HandleMessage(msg, source, now)
		return
	}
	index := wireguard.ReceiverIndex(msg)
	k := o.live[index]
	if k == nil {
		o.t.Errorf("data for session %x, which is not live", index)
		return
	}
	counters, ok := []uint64{wireguard.Counter(msg)}, []bool{false}
	k.Open(&o.scratch, [][]byte{msg}, counters, ok)
	o.windows[index].Accept(counters, ok)
	if !ok[0] {
		o.t.Error("data that does not open")
		return
	}
	o.act.Received, o.act.Confirmed = now, index
	if plain := msg[wireguard.HeaderSize : len(msg)-aead.TagSize]; len(plain) > 0 {
		o.packets = append(o.packets, plain)
	}
	o.peer.Observe(o.act, now)
}

// exchange sends one packet each way under the session both have.
func (o *ours) exchange(tunnel *tuntest.ChannelTUN) {
	o.t.Helper()
	ping := tuntest.Ping(theirAddr, ourAddr)
	o.seal(ping)
	var got []byte
	o.until("a packet from us to them", func() bool {
		select {
		case got = <-tunnel.Inbound:
			return true
		case msg := <-o.incoming:
			o.receive(msg, time.Now())
		case <-time.After(patience):
		}
		return false
	})
	if !bytes.Equal(got, ping) {
		o.t.Errorf("they received %x, want %x", got, ping)
	}
	before := len(o.packets)
	pong := tuntest.Ping(ourAddr, theirAddr)
	tunnel.Outbound <- pong
	o.until("a packet from them to us", func() bool { return len(o.packets) > before })
	if got := o.packets[before]; !bytes.HasPrefix(got, pong) || len(got)%16 != 0 {
		o.t.Errorf("we received %x, want %x", got, pong)
	}
}

func TestInteropWithWireguardGo(t *testing.T) {
	loaded := wireguard.PlainPolicy()
	loaded.HandshakeBudget = 0
	for name, c := range map[string]struct {
		policy   wireguard.Policy
		psk      wireguard.PresharedKey
		initiate bool
		cookies  int
	}{
		"we initiate":                          {wireguard.PlainPolicy(), wireguard.PresharedKey{}, true, 0},
		"we initiate, preshared key":           {wireguard.PlainPolicy(), wireguard.PresharedKey{1, 31: 9}, true, 0},
		"we initiate in portal mode":           {wireguard.PortalICEPolicy(), wireguard.PresharedKey{1}, true, 0},
		"they initiate":                        {wireguard.PlainPolicy(), wireguard.PresharedKey{}, false, 0},
		"they initiate, preshared key":         {wireguard.PlainPolicy(), wireguard.PresharedKey{1, 31: 9}, false, 0},
		"they initiate and we demand a cookie": {loaded, wireguard.PresharedKey{1}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, tunnel := newInterop(t, c.policy, c.psk)
			if c.initiate {
				o.peer.Initiate(wireguard.WhyNominated, time.Now())
			} else {
				tunnel.Outbound <- tuntest.Ping(ourAddr, theirAddr)
			}
			o.until("a session", func() bool { return o.peer.Current() != nil })
			if got := o.peer.Current(); got.Initiator() != c.initiate || wireguard.ConnectionID(got.LocalIndex()) != 0xabcdef {
				t.Errorf("initiator %v, index %x", got.Initiator(), got.LocalIndex())
			}
			if o.roamed != source {
				t.Errorf("endpoint %v, want %v", o.roamed, source)
			}
			if got := int(o.device.Dropped(wireguard.DropLoad)); got != c.cookies {
				t.Errorf("%d cookies demanded, want %d", got, c.cookies)
			}
			if !c.initiate {
				o.until("the packet that started it", func() bool { return len(o.packets) > 0 })
			}
			o.exchange(tunnel)
		})
	}
}
