package netnstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// taygaDevice is the tunnel device of a running tayga, in a namespace of its own. Packets are put on
// it and taken from it by a packet socket, so that no kernel routes them: no hop is counted and
// nothing is dropped or answered but by tayga.
type taygaDevice struct {
	fd      int
	ifindex int
	world   *world
	asked   uint64
	buffer  [65536]byte
}

const taygaName = "nat64"

// startTayga runs tayga with w's address plan until the test ends.
func startTayga(t *testing.T, w *world) *taygaDevice {
	t.Helper()
	h := newHost(t)
	// The kernel would send router solicitations and such through the device.
	for _, which := range []string{"all", "default"} {
		h.must("sysctl", "-qw", "net.ipv6.conf."+which+".disable_ipv6=1")
	}
	config := filepath.Join(t.TempDir(), "tayga.conf")
	var c strings.Builder
	fmt.Fprintf(&c, "tun-device %s\nipv4-addr %v\nipv6-addr %v\nprefix %v\n", taygaName, w.own4, w.own6, w.prefix.Prefix())
	for i := range w.hosts4 {
		fmt.Fprintf(&c, "map %v %v\n", w.hosts4[i], w.hosts6[i])
	}
	h.try(os.WriteFile(config, []byte(c.String()), 0o600))
	var said bytes.Buffer
	cmd := exec.Command("tayga", "--nodetach", "-d", "--config", config)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	h.try(h.within(cmd.Start))
	t.Cleanup(func() {
		err := errors.Join(cmd.Process.Kill(), ignoreKilled(cmd.Wait()))
		if err != nil || t.Failed() {
			t.Logf("tayga ended (%v) and said\n%s", err, tail(said.String(), 2000))
		}
	})
	await(t, 5*time.Second, "device of tayga", func() bool {
		_, err := h.links.LinkByName(taygaName)
		return err == nil
	})
	h.setUp(taygaName)
	d := &taygaDevice{ifindex: h.link(taygaName).Attrs().Index, world: w}
	h.try(h.within(d.open))
	t.Cleanup(func() { unix.Close(d.fd) })
	return d
}

// ignoreKilled returns nil for the end of a process by our signal.
func ignoreKilled(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && !exit.Exited() {
		return nil
	}
	return err
}

// open opens the packet socket.
func (d *taygaDevice) open() (err error) {
	all := int(networkOrder(unix.ETH_P_ALL))
	if d.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all); err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(d.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
		unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}),
		unix.Bind(d.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: d.ifindex}),
	)
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// exchange gives b to tayga and returns all packets that come of it: those ahead of the translation
// of a second packet, because tayga handles one after the other.
func (d *taygaDevice) exchange(t *testing.T, b []byte) (got [][]byte) {
	t.Helper()
	d.asked++
	mark := binary.BigEndian.AppendUint64([]byte("nothing more came of packet "), d.asked)
	end := &sample{src: d.world.peers[0], dst: d.world.hosts4[0], ttl: 64, df: true, proto: protoUDP}
	end.body = udpSegment(end.src, end.dst, 7, 7, mark)
	for _, p := range [][]byte{b, end.bytes()} {
		if err := d.send(p); err != nil {
			t.Fatalf("send %d bytes: %v", len(p), err)
		}
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buffer[:], 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			t.Fatalf("no more from tayga: %v; got %x of %x", err, got, b)
		case bytes.HasSuffix(d.buffer[:n], mark):
			return got
		default:
			got = append(got, bytes.Clone(d.buffer[:n]))
		}
	}
}

func (d *taygaDevice) send(b []byte) error {
	protocol := uint16(unix.ETH_P_IP)
	if b[0]>>4 == 6 {
		protocol = unix.ETH_P_IPV6
	}
	return unix.Sendto(d.fd, b, 0, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: d.ifindex})
}
