package relay

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/internal/udp"
)

// control is the loop of the goroutine that owns the Server.
func (r *Relay) control(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	retire := r.retirement.asked
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		if at, _, ok := r.server.NextTimeout(); ok {
			timer.Reset(max(time.Until(at), 0))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-r.bell:
			r.handlePunts()
		case <-retire:
			retire = nil
			r.server.Retire()
		case <-look.C:
			r.look()
		case <-timer.C:
			r.server.HandleTimeout(time.Now())
			r.carryOut(r.workers[0]) // nothing is opened because of time
		}
	}
}

// handlePunts hands the workers' punts to the server, a bounded number of each, and rings the bell
// again if there are more: neither timeouts nor the end wait for a flood.
func (r *Relay) handlePunts() {
	for _, w := range r.workers {
		r.withdraw(w)
		n := 0
		for ; n < puntsPerTurn; n++ {
			from, message, ok := w.punts.front()
			if !ok {
				break
			}
			r.server.HandleMessage(message, from, time.Now())
			w.punts.drop()
		}
		if n > 0 {
			w.handled() // before the answers: data goes as soon as its channel is bound
			r.carryOut(w)
		}
		if n == puntsPerTurn {
			r.ring()
		}
	}
}

// withdraw ends the allocations whose ports w cannot serve.
func (r *Relay) withdraw(w *Worker) {
	for _, p := range w.lost() {
		r.log.Warn("a relayed port is given up: it cannot be polled", "port", p.number)
		r.server.HandleLost(p.id, time.Now())
		r.carryOut(w)
	}
}

// carryOut does what the server wants, for requests that came through w: this is where the
// allocations among them belong.
func (r *Relay) carryOut(w *Worker) {
	for {
		r.server.Drain(&r.output)
		for i := range r.output.Closes {
			r.closePort(&r.output.Closes[i])
		}
		for i := range r.output.Opens {
			r.openPort(&r.output.Opens[i], w)
		}
		r.answer(r.output.Datagrams)
		if len(r.output.Opens) == 0 {
			return // else there are answers now, or other ports to be tried
		}
	}
}

// closePort has the port's worker close it.
func (r *Relay) closePort(c *Close) {
	p, ok := c.Handle.(*port)
	if !ok {
		return // it was never opened
	}
	if len(r.closing) >= maxClosing {
		for number, p := range r.closing {
			if p.isClosed() {
				delete(r.closing, number)
			}
		}
	}
	p.closed = make(chan struct{})
	r.closing[c.Port] = p
	p.worker.give(order{port: p, abandon: true})
}

// maxClosing is how many ports closing remembers before it forgets those that are closed.
const maxClosing = 256

// openPort binds a port and hands it to w.
func (r *Relay) openPort(o *Open, w *Worker) {
	if old := r.closing[o.Port]; old != nil {
		select {
		case <-old.closed:
		case <-time.After(closeTimeout):
		}
		delete(r.closing, o.Port)
	}
	p, err := openPort(o.Port, o.Families, w, r.ports, r.sources, r.group.Caps())
	switch {
	case errors.Is(err, unix.EADDRINUSE), errors.Is(err, unix.EACCES):
		r.log.Debug("relayed port not opened", "error", err)
		r.server.HandleOpened(o.ID, nil, false, time.Now())
		return
	case err != nil:
		r.log.Debug("no relayed port opened", "error", err)
		r.server.HandleNotOpened(o.ID, time.Now())
		return
	}
	p.id = o.ID
	r.reportPort(p)
	w.give(order{port: p})
	r.server.HandleOpened(o.ID, p, true, time.Now())
}

// answer sends the server's datagrams, in runs of one family. What the kernel does not take is
// lost, as any datagram may be, and counted; clients ask again.
func (r *Relay) answer(out []Datagram) {
	for len(out) > 0 {
		is4 := out[0].Remote.Addr().Is4()
		r.trains = r.trains[:0]
		for len(out) > 0 && out[0].Remote.Addr().Is4() == is4 {
			d := &out[0]
			r.trains = append(r.trains, batch.Train{Buf: d.Bytes, Stride: len(d.Bytes), Remote: d.Remote, Local: pinned(d.Local)})
			out = out[1:]
		}
		socket := r.out6
		if is4 {
			socket = r.out4
		}
		lost := len(r.trains)
		if socket != nil {
			lost = sendAll(socket, r.trains)
		}
		r.Counters().events[EventAnswerLost].Add(uint64(lost))
	}
}

// pinned returns local, or the zero AddrPort where it does not say an address.
func pinned(local netip.AddrPort) netip.AddrPort {
	if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
		return netip.AddrPort{}
	}
	return local
}

// sendAll sends datagrams and waits once for a full send buffer. It returns how many it did not get
// rid of; the socket counts those that the kernel refuses for their destination.
func sendAll(socket *udp.Socket, trains []batch.Train) (lost int) {
	for try := range 2 {
		if try > 0 {
			socket.WaitWritable(sendPatience)
		}
		n, err := socket.Send(trains)
		trains = trains[n:]
		if err != nil || len(trains) == 0 {
			break
		}
	}
	return len(trains)
}
