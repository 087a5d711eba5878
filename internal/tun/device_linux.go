package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxQueues is the kernel's limit (MAX_TAP_QUEUES, drivers/net/tun.c).
const maxQueues = 256

// Options say how an interface is opened. The zero value is one queue without offloads.
type Options struct {
	// Queues is the number of queues; 0 means 1.
	Queues int
	// MTU is set on the interface if it is not 0.
	MTU int
	// Csum accepts packets with unfinished checksums from the kernel; TSO accepts TCP
	// superpackets and USO such of UDP. TSO and USO need Csum and are off without it. What the
	// kernel granted is in Caps. Writing superpackets needs none of them.
	Csum, TSO, USO bool
	// Persist lets the interface outlive the process.
	Persist bool
	// Attach joins an interface of that name that exists already, for example one made
	// persistent before; without it an existing interface is an error.
	Attach bool
}

// Caps is what the kernel granted to an interface.
type Caps struct {
	// VnetHdr: packets carry a virtio-net header, without which there are no offloads at all,
	// reading or writing. Only a descriptor from outside (FromFD) can lack it.
	VnetHdr bool
	// Csum, TSO and USO (Linux 6.2) are the offloads of packets read.
	Csum, TSO, USO bool
}

// Device is a TUN interface and its queues.
type Device struct {
	name   string
	index  int
	queues []*Queue
	caps   Caps

	watchers sync.WaitGroup // the goroutines of Events, which use the first queue's descriptor
	stops    []context.CancelFunc
}

// Create makes a TUN interface, or attaches to one (Options.Attach), and opens its queues. The
// interface is down and without addresses. A name may hold one %d, which the kernel replaces by
// the first free number. Errors say what to do about them and wrap EBUSY (interface in use), EPERM
// (CAP_NET_ADMIN is missing) or ENOENT (no /dev/net/tun).
func Create(name string, o Options) (*Device, error) {
	n := max(o.Queues, 1)
	if n > maxQueues {
		return nil, fmt.Errorf("open tunnel interface %q with %d queues: the kernel allows %d", name, n, maxQueues)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	d := &Device{name: name, caps: Caps{VnetHdr: true}}
	if err := d.open(n, o); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// FromFD takes over a descriptor of a TUN interface that was opened elsewhere, and opens
// Options.Queues-1 more queues if it is multiqueue. Without IFF_VNET_HDR there are no offloads;
// with packet information (no IFF_NO_PI), or as a TAP interface, it is refused. On success the descriptor is
// the device's, on an error it stays the caller's.
func FromFD(fd int, o Options) (*Device, error) {
	req, err := ifrequest("")
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return nil, fmt.Errorf("descriptor %d is no tunnel interface: %w", fd, err)
	}
	flags := int(req.Uint16())
	if flags&unix.IFF_TUN == 0 || flags&unix.IFF_NO_PI == 0 {
		return nil, fmt.Errorf("descriptor %d (%s, flags %#x): want IFF_TUN and IFF_NO_PI", fd, req.Name(), flags)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("make descriptor %d non-blocking: %w", fd, err)
	}
	d := &Device{name: req.Name(), caps: Caps{VnetHdr: flags&unix.IFF_VNET_HDR != 0}}
	if d.caps.VnetHdr {
		if err := setHeaderSize(fd, d.name); err != nil {
			return nil, err
		}
	}
	d.queues = append(d.queues, newQueue(fd, d.caps.VnetHdr))
	o.Attach = true
	want := 1
	if flags&unix.IFF_MULTI_QUEUE != 0 && d.caps.VnetHdr {
		want = max(o.Queues, 1)
	}
	if err := d.open(want, o); err != nil {
		for _, q := range d.queues[1:] {
			_ = unix.Close(q.fd)
		}
		return nil, err
	}
	return d, nil
}

// open opens queues up to n and sets the interface up.
func (d *Device) open(n int, o Options) error {
	for len(d.queues) < n {
		flags := unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE
		if len(d.queues) == 0 && !o.Attach {
			flags |= unix.IFF_TUN_EXCL
		}
		q, name, err := openQueue(d.name, flags)
		if err != nil {
			return err
		}
		d.name = name
		d.queues = append(d.queues, q)
	}
	iface, err := net.InterfaceByName(d.name)
	if err != nil {
		return fmt.Errorf("find tunnel interface %q: %w", d.name, err)
	}
	d.index = iface.Index
	if d.caps.VnetHdr {
		if err := d.setOffloads(o); err != nil {
			return err
		}
	}
	if o.Persist {
		if err := unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETPERSIST, 1); err != nil {
			return fmt.Errorf("make tunnel interface %q persistent: %w", d.name, err)
		}
	}
	if o.MTU != 0 {
		return d.SetMTU(o.MTU)
	}
	return nil
}

func openQueue(name string, flags int) (*Queue, string, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, "", fmt.Errorf("open /dev/net/tun: %w (load the driver with \"modprobe tun\"; in a container: "+
			"\"mkdir -p /dev/net && mknod /dev/net/tun c 10 200\", or pass the device in)", err)
	case err != nil:
		return nil, "", fmt.Errorf("open /dev/net/tun: %w", err)
	}
	got, err := attach(fd, name, flags)
	if err != nil {
		_ = unix.Close(fd)
		return nil, "", err
	}
	return newQueue(fd, true), got, nil
}

// attach makes fd a queue of interface name and returns the name the kernel gave it.
func attach(fd int, name string, flags int) (string, error) {
	req, err := ifrequest(name)
	if err != nil {
		return "", err
	}
	req.SetUint16(uint16(flags))
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	switch {
	case err == nil:
	case errors.Is(err, unix.EBUSY):
		return "", fmt.Errorf("open tunnel interface %q: %w: it exists or another program uses it", name, err)
	case errors.Is(err, unix.EPERM):
		return "", fmt.Errorf("open tunnel interface %q: %w (needs the capability CAP_NET_ADMIN)", name, err)
	case errors.Is(err, unix.EINVAL):
		return "", fmt.Errorf("open tunnel interface %q: %w: it is of another kind, or was made without multi_queue", name, err)
	default:
		return "", fmt.Errorf("open tunnel interface %q: %w", name, err)
	}
	return req.Name(), setHeaderSize(fd, name)
}

func setHeaderSize(fd int, name string) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHdrLen); err != nil {
		return fmt.Errorf("set the virtio-net header size of %q: %w", name, err)
	}
	return nil
}

// setOffloads asks for the offloads of o, and for fewer where the kernel refuses them. They hold
// for all queues.
func (d *Device) setOffloads(o Options) error {
	if !o.Csum {
		o.TSO, o.USO = false, false
	}
	for {
		flags := 0
		if o.Csum {
			flags |= unix.TUN_F_CSUM
		}
		if o.TSO {
			flags |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		}
		if o.USO {
			flags |= unix.TUN_F_USO4 | unix.TUN_F_USO6
		}
		err := unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETOFFLOAD, flags)
		switch {
		case err == nil:
			d.caps.Csum, d.caps.TSO, d.caps.USO = o.Csum, o.TSO, o.USO
			return nil
		case o.USO: // unknown before Linux 6.2
			o.USO = false
		case o.TSO:
			o.TSO = false
		case o.Csum:
			o.Csum = false
		default:
			return fmt.Errorf("set the offloads of tunnel interface %q: %w", d.name, err)
		}
	}
}

// Name returns the interface's name when it was opened.
func (d *Device) Name() string { return d.name }

// Index returns the interface's index when it was opened; it stays when the interface is renamed,
// but may change when it moves to another network namespace.
func (d *Device) Index() int { return d.index }

// Caps returns what the kernel granted.
func (d *Device) Caps() Caps { return d.caps }

// Queues returns the number of queues.
func (d *Device) Queues() int { return len(d.queues) }

// Queue returns queue i, 0 ≤ i < Queues().
func (d *Device) Queue(i int) *Queue { return d.queues[i] }

// MTU returns the interface's MTU as it is now, in bytes, in whichever network namespace it is.
func (d *Device) MTU() (int, error) {
	p, err := d.place()
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %q: %w", d.name, err)
	}
	defer p.close()
	link, err := p.link()
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %q: %w", d.name, err)
	}
	return link.Attrs().MTU, nil
}

// SetMTU sets the interface's MTU in bytes, in whichever network namespace it is.
func (d *Device) SetMTU(mtu int) error {
	if mtu < 0 || mtu > 65535 {
		return fmt.Errorf("set the MTU of %q to %d: want at most 65535", d.name, mtu)
	}
	p, err := d.place()
	if err != nil {
		return fmt.Errorf("set the MTU of %q to %d: %w", d.name, mtu, err)
	}
	defer p.close()
	if err := p.setMTU(mtu); err != nil {
		return fmt.Errorf("set the MTU of %q to %d: %w", d.name, mtu, err)
	}
	return nil
}

// Close ends the events and closes all queues; the interface goes with the last one unless it is
// persistent. The loops must have ended.
func (d *Device) Close() error {
	for _, stop := range d.stops {
		stop()
	}
	d.watchers.Wait()
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, unix.Close(q.fd))
	}
	d.queues = nil
	return errors.Join(errs...)
}

func ifrequest(name string) (*unix.Ifreq, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("tunnel interface name %q: %w", name, err)
	}
	return req, nil
}

// checkName refuses what the kernel would refuse less clearly (dev_valid_name).
func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return fmt.Errorf("tunnel interface name %q: %w", name, unix.EINVAL)
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("tunnel interface name %q has %d bytes: at most %d are allowed: %w",
			name, len(name), unix.IFNAMSIZ-1, unix.EINVAL)
	case strings.ContainsAny(name, "/: \t\n\v\f\r"):
		return fmt.Errorf("tunnel interface name %q: slashes, colons and blanks are not allowed: %w", name, unix.EINVAL)
	}
	return nil
}
