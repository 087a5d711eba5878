package tun

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/firelane/firelane/batch"
)

// Whatever header and packet come, an accepted offload lies inside the packet, and can be written
// again.
func TestAnAcceptedHeaderFitsItsPacket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var h [vnetHdrLen]byte
		copy(h[:], rapid.SliceOfN(rapid.Byte(), vnetHdrLen, vnetHdrLen).Draw(rt, "header"))
		packet := rapid.SliceOfN(rapid.Byte(), 0, 120).Draw(rt, "packet")
		if rapid.Bool().Draw(rt, "plausible") && len(packet) > 60 {
			h = [vnetHdrLen]byte{vnetNeedsCsum, rapid.SampledFrom([]byte{0, vnetTCP4, vnetTCP6, vnetUDP}).Draw(rt, "kind"),
				0, 0, 100, 0, rapid.SampledFrom([]byte{20, 24, 40}).Draw(rt, "start"), 0, rapid.SampledFrom([]byte{6, 16}).Draw(rt, "offset"), 0}
			packet[0] = rapid.SampledFrom([]byte{0x45, 0x60}).Draw(rt, "version")
		}
		o, ok := decode(&h, packet)
		if !ok {
			return
		}
		if o.NeedsCsum && int(o.CsumStart)+int(o.CsumOffset)+2 > len(packet) {
			rt.Errorf("checksum outside of %d bytes: %+v", len(packet), o)
		}
		if o.Kind != batch.OffloadNone && (int(o.HdrLen) >= len(packet) || o.SegmentSize == 0 || o.HdrLen < o.CsumStart+8 || !o.NeedsCsum) {
			rt.Errorf("superpacket of %d bytes: %+v", len(packet), o)
		}
		if !encode(&h, &o, len(packet)) {
			rt.Errorf("%+v was read but cannot be written", o)
		}
		if again, ok := decode(&h, packet); !ok || again != o {
			rt.Errorf("%+v became %+v", o, again)
		}
	})
}

// One operation is one superpacket of 46 segments of 1,400 bytes into the kernel, where no socket
// wants it.
func BenchmarkWrite(b *testing.B) {
	enterNetns(b)
	d := newDevice(b, "fire0", all)
	up(b, d, "10.7.0.1/24")
	dst := netip.MustParseAddrPort("10.7.0.77:9") // not ours, and forwarding is off: dropped at once
	supers := []batch.Super{udpSuper(dst, pattern(46*1400), 1400)}
	b.SetBytes(46 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := d.Queue(0).Write(supers); n != 1 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// One operation is one superpacket of 46 segments of 1,400 bytes from a UDP socket through the
// tunnel, or one read that finds nothing.
func BenchmarkRead(b *testing.B) {
	b.Run("superpacket with its send", func(b *testing.B) {
		enterNetns(b)
		d := newDevice(b, "fire0", all)
		up(b, d, "10.7.0.1/24")
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 1400); err != nil {
			b.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 7, 0, 2}, Port: 9}); err != nil {
			b.Fatal(err)
		}
		payload, in := pattern(46*1400), newBatch(b, 4)
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := unix.Write(fd, payload); err != nil {
				b.Fatal(err)
			}
			if err := d.Queue(0).Read(in); err != nil || len(in.Packets) == 0 {
				b.Fatal(len(in.Packets), err)
			}
		}
	})
	b.Run("empty", func(b *testing.B) {
		enterNetns(b)
		d := newDevice(b, "fire0", all)
		in := newBatch(b, 4)
		for b.Loop() {
			if err := d.Queue(0).Read(in); err != nil {
				b.Fatal(err)
			}
		}
	})
}
