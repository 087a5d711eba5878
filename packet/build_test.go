package packet

import (
	"encoding/binary"
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// flow describes a packet for the independent encoder to build.
type flow struct {
	v6, udp   bool
	id        uint16
	seq       uint32
	flags     uint8
	options   int // bytes of TCP options, a multiple of 4
	ipOptions bool
	payload   []byte
}

func (f flow) build(t fataler) []byte {
	t.Helper()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	proto := layers.IPProtocolTCP
	if f.udp {
		proto = layers.IPProtocolUDP
	}
	ip4 := &layers.IPv4{Version: 4, TTL: 61, TOS: 0x2a, Id: f.id, Protocol: proto, Flags: layers.IPv4DontFragment,
		SrcIP: net.IP{100, 64, 0, 1}, DstIP: net.IP{192, 0, 2, 7}}
	if f.ipOptions {
		ip4.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}
	ip6 := &layers.IPv6{Version: 6, TrafficClass: 0x2a, FlowLabel: 0x12345, HopLimit: 61, NextHeader: proto,
		SrcIP: net.ParseIP("fd00:2021:1111::1"), DstIP: net.ParseIP("2001:db8::7")}
	var network gopacket.NetworkLayer = ip4
	stack := []gopacket.SerializableLayer{ip4}
	if f.v6 {
		network, stack = ip6, []gopacket.SerializableLayer{ip6}
	}
	if f.udp {
		udp := &layers.UDP{SrcPort: 4000, DstPort: 5300}
		_ = udp.SetNetworkLayerForChecksum(network)
		stack = append(stack, udp)
	} else {
		tcp := &layers.TCP{SrcPort: 4000, DstPort: 443, Seq: f.seq, Ack: 77, Window: 501,
			FIN: f.flags&FlagFIN != 0, SYN: f.flags&FlagSYN != 0, RST: f.flags&FlagRST != 0, PSH: f.flags&FlagPSH != 0,
			ACK: f.flags&FlagACK != 0, URG: f.flags&FlagURG != 0, ECE: f.flags&FlagECE != 0, CWR: f.flags&FlagCWR != 0}
		for i := 0; i < f.options; i += 4 {
			tcp.Options = append(tcp.Options, layers.TCPOption{OptionType: 253, OptionLength: 4, OptionData: []byte{byte(i), 0xee}})
		}
		_ = tcp.SetNetworkLayerForChecksum(network)
		stack = append(stack, tcp)
	}
	stack = append(stack, gopacket.Payload(f.payload))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, opts, stack...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// decode reads a packet with the independent decoder.
func decode(t fataler, b []byte) gopacket.Packet {
	t.Helper()
	first := layers.LayerTypeIPv4
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.NoCopy)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("independent decoder: %v", e.Error())
	}
	return p
}

// slowSum is RFC 1071 as it is written, two bytes at a time.
func slowSum(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// fataler is what tests, benchmarks and properties have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func get16(b []byte) uint16    { return binary.BigEndian.Uint16(b) }
func put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
