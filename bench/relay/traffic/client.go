package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/stun"
)

// client is the TURN client of one allocation while it is set up.
type client struct {
	socket       *udp.Socket
	in           *batch.Batch
	server       Server
	realm, nonce []byte
	requests     uint32
}

// allocate returns the relayed address of a new IPv4 allocation.
func (c *client) allocate() (netip.AddrPort, error) {
	m, err := c.ask(stun.Allocate, func(b *stun.Builder) { b.Transport(stun.UDP) })
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("allocate: %w", err)
	}
	if !m.Relayed[0].IsValid() {
		return netip.AddrPort{}, errors.New("allocate: no relayed IPv4 address in the answer")
	}
	return m.Relayed[0], nil
}

// bind ties the channel number to peer.
func (c *client) bind(number uint16, peer netip.AddrPort) error {
	_, err := c.ask(stun.ChannelBind, func(b *stun.Builder) {
		b.Channel(number)
		b.Address(stun.XORPeerAddress, peer)
	})
	if err != nil {
		return fmt.Errorf("bind a channel: %w", err)
	}
	return nil
}

// ask sends a request until it is granted, refused for good or not answered often enough. The
// first refusal brings the nonce and the realm.
func (c *client) ask(method stun.Method, fill func(*stun.Builder)) (m stun.Message, err error) {
	for range maxTries {
		c.requests++
		id := stun.TransactionID{byte(method), byte(c.requests)}
		b := stun.Start(nil, stun.Request, method, id)
		fill(&b)
		if c.nonce != nil {
			key := stun.LongTermKey([]byte(c.server.User), c.realm, []byte(c.server.Password))
			b.Text(stun.Username, []byte(c.server.User))
			b.Text(stun.Realm, c.realm)
			b.Text(stun.Nonce, c.nonce)
			b.Sign(key[:])
		}
		m, err = c.exchange(b.Bytes(), id)
		switch {
		case err != nil:
			return m, err
		case m.Class == stun.Success:
			return m, nil
		case m.Class == stun.Failure && (m.Code == 401 && c.nonce == nil || m.Code == 438):
			c.realm, c.nonce = bytes.Clone(m.Realm), bytes.Clone(m.Nonce)
		case m.Class == stun.Failure:
			return m, fmt.Errorf("refused: %d %s", m.Code, m.Reason)
		}
	}
	return m, errors.New("no answer")
}

// exchange sends a request and returns its answer, whose slices are lent until the next exchange;
// a zero message if none came in time.
func (c *client) exchange(request []byte, id stun.TransactionID) (m stun.Message, err error) {
	trains := []batch.Train{{Buf: request, Stride: len(request), Remote: c.server.Addr}}
	if _, err := c.socket.Send(trains); err != nil {
		return m, err
	}
	fds := []unix.PollFd{{Fd: int32(c.socket.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(answerTime); time.Now().Before(end); {
		if n, err := unix.Poll(fds, int(time.Until(end).Milliseconds())+1); n == 0 || errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return m, err
		}
		if err := c.socket.Recv(c.in); err != nil {
			return m, err
		}
		for i := range c.in.Trains {
			if m.Parse(c.in.Trains[i].Buf) == nil && m.ID == id {
				return m, nil
			}
		}
	}
	return stun.Message{Class: stun.Request}, nil
}

const (
	// answerTime is how long an answer may take before the request is repeated, and maxTries how
	// often: a server that has just been started may need the first of them.
	answerTime = 500 * time.Millisecond
	maxTries   = 6
)
