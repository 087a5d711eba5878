package tun

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// Events reports the interface's present state and then every change of it, until ctx is done,
// the device is closed or the interface is removed; then the channel is closed, as it is when the
// kernel's notifications cannot be read any more. It follows the interface from one network
// namespace to another.
func (d *Device) Events(ctx context.Context) (<-chan Event, error) {
	w, err := d.watch()
	if err != nil {
		return nil, fmt.Errorf("watch tunnel interface %q: %w", d.name, err)
	}
	ctx, stop := context.WithCancel(ctx)
	d.stops = append(d.stops, stop)
	events := make(chan Event)
	d.watchers.Go(func() {
		defer close(events)
		d.forward(ctx, w, events)
	})
	return events, nil
}

// forward passes on what differs from the state before.
func (d *Device) forward(ctx context.Context, w *watch, events chan<- Event) {
	defer func() { w.end() }()
	now := w.first
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
		next := now
		select {
		case u, ok := <-w.updates:
			switch {
			case ok && int(u.Index) != w.index:
			case ok && u.Header.Type != unix.RTM_DELLINK:
				next = event(u.Link)
			default:
				// It left this namespace, if only for another one, or notifications were lost
				// (ENOBUFS), which ends a subscription.
				w.end()
				var err error
				if w, err = d.watchAgain(ctx); errors.Is(err, errRemoved) {
					next.Removed = true
				} else if err != nil {
					return
				} else {
					next = w.first
				}
			}
		case <-ctx.Done():
			return
		}
		changed, now = next != now, next
	}
}

// rewatchEvery is how long a failed subscription waits for the next try.
const rewatchEvery = 100 * time.Millisecond

// watchAgain is watch, and tries again after any error but errRemoved until ctx is done. With an
// error comes an empty watch.
func (d *Device) watchAgain(ctx context.Context) (*watch, error) {
	for {
		w, err := d.watch()
		switch {
		case err == nil:
			return w, nil
		case errors.Is(err, errRemoved):
			return new(watch), err
		}
		select {
		case <-time.After(rewatchEvery):
		case <-ctx.Done():
			return new(watch), ctx.Err()
		}
	}
}

// watch is a subscription to the changes of links in the namespace where the interface was when
// it began.
type watch struct {
	updates chan netlink.LinkUpdate
	done    chan struct{}
	index   int
	first   Event // the state when it began
}

// maxMoves bounds how often in a row an interface may change its namespace while it is looked
// for. More than one in the microseconds that takes is no work of an administrator.
const maxMoves = 16

// watch begins a subscription where the interface is. The error is errRemoved if it is nowhere.
func (d *Device) watch() (*watch, error) {
	for range maxMoves {
		w, err := d.watchOnce()
		if err == nil || !errors.As(err, new(netlink.LinkNotFoundError)) {
			return w, err
		}
	}
	return nil, errors.New("it moves between network namespaces too fast")
}

func (d *Device) watchOnce() (*watch, error) {
	p, err := d.place()
	if err != nil {
		return nil, err
	}
	defer p.close()
	w := &watch{updates: make(chan netlink.LinkUpdate), done: make(chan struct{})}
	err = netlink.LinkSubscribeWithOptions(w.updates, w.done, netlink.LinkSubscribeOptions{Namespace: &p.ns})
	if err != nil {
		return nil, err
	}
	// Asked after the subscription, so that no change falls between the two.
	link, err := p.link()
	if err != nil {
		w.end()
		return nil, err
	}
	w.index, w.first = link.Attrs().Index, event(link)
	return w, nil
}

// end ends the subscription. Its goroutine may be about to send.
func (w *watch) end() {
	if w.done == nil {
		return
	}
	close(w.done)
	go func() {
		for range w.updates {
		}
	}()
}

func event(l netlink.Link) Event {
	a := l.Attrs()
	return Event{MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
}
