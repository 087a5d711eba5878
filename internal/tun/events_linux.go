package tun

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Event is the state of the interface after a change.
type Event struct {
	// MTU is the interface's MTU in bytes.
	MTU int
	// Up: the interface is administratively up.
	Up bool
	// Removed: the interface is gone, the other fields are its last state, and no event follows.
	Removed bool
}

// Events reports the interface's present state and then every change of it, until ctx is done or
// the interface is removed; then the channel is closed, as it is when the kernel's notifications
// cannot be read any more. It watches the network namespace of the calling thread.
func (d *Device) Events(ctx context.Context) (<-chan Event, error) {
	updates := make(chan netlink.LinkUpdate)
	done := make(chan struct{})
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{})
	if err != nil {
		return nil, fmt.Errorf("watch tunnel interface %q: %w", d.name, err)
	}
	// Asked after the subscription, so that no change falls between the two.
	link, err := netlink.LinkByIndex(d.index)
	if err != nil {
		close(done)
		go drain(updates)
		return nil, fmt.Errorf("find tunnel interface %q: %w", d.name, err)
	}
	events := make(chan Event)
	go d.forward(ctx, event(link, false), updates, done, events)
	return events, nil
}

// forward passes on what differs from the state before.
func (d *Device) forward(ctx context.Context, now Event, updates <-chan netlink.LinkUpdate, done chan struct{}, events chan<- Event) {
	defer close(events)
	defer func() { go drain(updates) }()
	defer close(done)
	for changed := true; ; {
		if changed {
			select {
			case events <- now:
			case <-ctx.Done():
				return
			}
		}
		if now.Removed {
			return
		}
		select {
		case u, ok := <-updates:
			if !ok {
				return
			}
			changed = false
			if int(u.Index) == d.index {
				next := event(u.Link, u.Header.Type == unix.RTM_DELLINK)
				changed, now = next != now, next
			}
		case <-ctx.Done():
			return
		}
	}
}

func event(l netlink.Link, removed bool) Event {
	a := l.Attrs()
	return Event{MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0, Removed: removed}
}

// drain lets the subscription's goroutine end, which may be about to send.
func drain(updates <-chan netlink.LinkUpdate) {
	for range updates {
	}
}
