package node

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/internal/uapi"
	"github.com/firelane/firelane/protocol/wireguard"
)

// errStopping answers configuration requests that come too late.
var errStopping = fmt.Errorf("the interface is going down: %w", syscall.ENODEV)

// do runs f on the driver's goroutine and waits for it; false if the driver has ended.
func (s *static) do(f func()) bool {
	done := make(chan struct{})
	select {
	case s.requests <- func() { f(); close(done) }:
		<-done
		return true
	case <-s.ended:
		return false
	}
}

// Get reports the interface's state to the configuration socket.
func (s *static) Get() uapi.State {
	var state uapi.State
	s.do(func() {
		state.PrivateKey = uapi.Key(s.machine.PrivateKey())
		state.ListenPort, state.FirewallMark = s.port, s.mark
		for _, p := range s.machine.Peers() {
			state.Peers = append(state.Peers, uapi.PeerState{
				PublicKey:           uapi.PublicKey(p.PublicKey),
				PresharedKey:        uapi.Key(p.PresharedKey),
				Endpoint:            p.Endpoint,
				LastHandshake:       p.LastHandshake,
				RxBytes:             p.Received,
				TxBytes:             p.Sent,
				PersistentKeepalive: uint16(p.Keepalive / time.Second),
				AllowedIPs:          p.Allowed,
			})
		}
	})
	return state
}

// Set applies a change from the configuration socket.
func (s *static) Set(c uapi.Config) error {
	err := errStopping
	s.do(func() { err = s.configure(c) })
	return err
}

func (s *static) configure(c uapi.Config) error {
	if c.FirewallMark != nil {
		s.mark = *c.FirewallMark
		if s.running != nil {
			if err := s.running.group.SetMark(s.mark); err != nil {
				return err
			}
		}
	}
	if c.ListenPort != nil {
		if err := s.rebind(*c.ListenPort); err != nil {
			return err
		}
	}
	err := s.machine.Configure(deviceChange(c), time.Now())
	if errors.Is(err, control.ErrConfig) {
		return fmt.Errorf("%w: %w", err, syscall.EINVAL)
	}
	return err
}

// deviceChange says in control's words what a request asks for.
func deviceChange(c uapi.Config) control.DeviceChange {
	d := control.DeviceChange{
		PrivateKey:   (*wireguard.PrivateKey)(c.PrivateKey),
		ReplacePeers: c.ReplacePeers,
	}
	for _, p := range c.Peers {
		change := control.PeerChange{
			PublicKey:      wireguard.PublicKey(p.PublicKey),
			Remove:         p.Remove,
			UpdateOnly:     p.UpdateOnly,
			PresharedKey:   (*wireguard.PresharedKey)(p.PresharedKey),
			Endpoint:       p.Endpoint,
			ReplaceAllowed: p.ReplaceAllowedIPs,
		}
		if p.PersistentKeepalive != nil {
			every := time.Duration(*p.PersistentKeepalive) * time.Second
			change.Keepalive = &every
		}
		for _, a := range p.AllowedIPs {
			change.Allowed = append(change.Allowed, control.AllowedChange{Prefix: a.Prefix, Remove: a.Remove})
		}
		d.Peers = append(d.Peers, change)
	}
	return d
}
