package tun

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// tunGetDevNetns is TUNGETDEVNETNS, _IO('T', 227) of linux/if_tun.h (Linux 5.2): it returns a
// descriptor of the network namespace the interface is in.
const tunGetDevNetns = 0x54e3

// errRemoved says that the interface does not exist any more.
var errRemoved = errors.New("the interface was removed")

// place is where an interface is at present: its namespace and its name there. Both change when
// somebody moves or renames it.
type place struct {
	ns   netns.NsHandle // not open: the namespace of the calling thread
	name string
}

// place asks the kernel through a queue's descriptor, which knows its interface wherever that is.
// A kernel that cannot tell the namespace, or may not (it takes CAP_NET_ADMIN there), leaves the
// calling thread's.
func (d *Device) place() (place, error) {
	fd := d.queues[0].fd
	req, err := ifrequest("")
	if err != nil {
		return place{}, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); errors.Is(err, unix.EBADFD) {
		return place{}, errRemoved
	} else if err != nil {
		return place{}, err
	}
	ns, err := unix.IoctlRetInt(fd, tunGetDevNetns)
	switch {
	case errors.Is(err, unix.EBADFD):
		return place{}, errRemoved
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return place{}, err
	case err != nil:
		ns = int(netns.None())
	}
	return place{ns: netns.NsHandle(ns), name: req.Name()}, nil
}

func (p *place) close() {
	if p.ns.IsOpen() {
		_ = p.ns.Close()
	}
}

// link reads the interface's state. A netlink.LinkNotFoundError means that it has moved.
func (p *place) link() (netlink.Link, error) {
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.LinkByName(p.name)
}

// setMTU sets the interface's MTU.
func (p *place) setMTU(mtu int) error {
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(p.name)
	if err != nil {
		return err
	}
	return h.LinkSetMTU(link, mtu)
}
