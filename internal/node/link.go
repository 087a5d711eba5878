package node

import (
	"errors"
	"time"

	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/udp"
)

// socketRetry is how long after a failure the sockets of a link that is up are tried again: the
// usual reason is another program on the port.
const socketRetry = 5 * time.Second

// linkChanged follows the tunnel's link: up opens the sockets and starts the workers, down closes
// them, so that the port is free meanwhile.
func (s *static) linkChanged(e tun.Event) {
	now := time.Now()
	s.link = e
	if e.Up && s.running == nil {
		if err := s.startPlane(); err != nil {
			s.cfg.Log.Error("link up, but no sockets: trying again", "port", s.port, "every", socketRetry, "err", err)
			s.retry.Reset(socketRetry)
		}
	}
	s.machine.HandleLink(e.Up && s.running != nil, e.MTU, now)
	if !e.Up {
		s.carryOut()
		s.stopPlane()
	}
	s.cfg.Log.Info("link changed", "up", e.Up, "mtu", e.MTU)
}

// startPlane opens the sockets and starts the workers.
func (s *static) startPlane() error {
	g, err := s.plane.openGroup(s.port, s.mark)
	if err != nil {
		return err
	}
	p, err := startPlane(&s.plane, g)
	if err != nil {
		return errors.Join(err, g.Close())
	}
	s.running, s.port = p, g.Port()
	s.logCaps(g)
	return nil
}

// stopPlane ends the workers, closes the sockets and keeps what these have counted.
func (s *static) stopPlane() {
	if s.running == nil {
		return
	}
	sockets := s.running.sockets()
	if err := s.running.stop(); err != nil {
		s.cfg.Log.Warn("closing the sockets", "err", err)
	}
	// What the loops have handed up they will not hand up again.
	now := time.Now()
	for _, w := range s.running.workers {
		for s.drain(w.signals, now) {
		}
		for s.drain(w.inner, now) {
		}
	}
	s.spent.add(s.running, sockets)
	s.running = nil
}

// rebind moves to another port; 0 asks for any. A port that cannot be had leaves the old one.
func (s *static) rebind(port uint16) error {
	if s.running == nil {
		old := s.port
		s.port = port
		if !s.link.Up {
			return nil
		}
		err := s.relink()
		if err != nil {
			s.port = old
		}
		return err
	}
	if port == s.running.group.Port() {
		return nil
	}
	g, err := s.plane.openGroup(port, s.mark)
	if err != nil {
		return err
	}
	s.stopPlane()
	p, err := startPlane(&s.plane, g)
	if err != nil {
		s.machine.HandleLink(false, s.link.MTU, time.Now())
		s.retry.Reset(socketRetry)
		return errors.Join(err, g.Close())
	}
	s.running, s.port = p, g.Port()
	return nil
}

// relink opens the sockets of a link that is up without them.
func (s *static) relink() error {
	if err := s.startPlane(); err != nil {
		return err
	}
	s.machine.HandleLink(true, s.link.MTU, time.Now())
	return nil
}

// logCaps reports what the kernel grants, feature by feature.
func (s *static) logCaps(g *udp.Group) {
	u, t := g.Caps(), s.cfg.Tun.Caps()
	v4, _ := g.Worker(0)
	receive, send, _ := v4.Buffers()
	s.cfg.Log.Info("data plane started", "port", g.Port(), "workers", s.plane.workers,
		"udp_gro", u.GRO.String(), "udp_gso", u.GSO.String(), "segments", v4.MaxSegments(),
		"tun_csum", t.Csum, "tun_tso", t.TSO, "tun_uso", t.USO,
		"receive_buffer", receive, "send_buffer", send)
	if receive < 2*socketBuffer {
		s.cfg.Log.Warn("the kernel grants a smaller receive buffer than asked for: bursts may be lost; raise net.core.rmem_max",
			"asked", socketBuffer, "granted", receive/2)
	}
}
