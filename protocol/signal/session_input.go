package signal

import (
	"errors"
	"slices"
	"time"
)

// ErrNotJoined is returned for messages that cannot be sent now. They are not kept: after the
// next Connected the application starts from the portal's init.
var ErrNotJoined = errors.New("portal channel is not joined")

// HandleOpen tells that the websocket is open. The session joins.
func (s *Session) HandleOpen(now time.Time) {
	s.now = now
	if s.state != Connecting {
		return
	}
	s.ref, s.beats, s.sent = 0, s.beats[:0], s.sent[:0]
	s.beatAt = now.Add(heartbeatInterval)
	s.join(now)
}

// join asks for the channel, on a new websocket or again on the same.
func (s *Session) join(now time.Time) {
	payload := []byte("null")
	if s.config.Role == RoleRelay {
		b, err := marshal(s.config.Join)
		if err != nil {
			panic(err) // an optional string always marshals
		}
		payload = b
	}
	s.state = Joining
	s.joinBy = now.Add(joinTimeout)
	s.joinRef = s.write(s.config.Role.String(), EventJoin, payload)
}

// HandleRefused tells that the portal answered the upgrade otherwise.
func (s *Session) HandleRefused(r Refusal, now time.Time) {
	s.now = now
	if s.state != Connecting {
		return
	}
	if fatal := r.Fatal(); fatal != nil {
		s.end(fatal)
		return
	}
	if delay, ok := r.Wait(now); ok {
		s.stats.Losses++
		s.hangup(false)
		s.wait(r.String(), delay, now)
		return
	}
	s.lose(r.String(), now)
}

// HandleFailed tells that the portal could not be reached: no address, no TCP, no TLS.
func (s *Session) HandleFailed(why string, now time.Time) {
	s.now = now
	if s.state == Connecting {
		s.lose(why, now)
	}
}

// HandleClosed tells that the open websocket has ended, in whatever way.
func (s *Session) HandleClosed(why string, now time.Time) {
	s.now = now
	if s.open() {
		s.lose(why, now)
	}
}

// HandleFrame takes one text message. It keeps nothing of text.
func (s *Session) HandleFrame(text []byte, now time.Time) {
	s.now = now
	if !s.open() {
		return
	}
	f, err := ParseFrame(text, FromPortal)
	if err != nil {
		s.malformed(err)
		return
	}
	if f.Event == EventReply {
		s.handleReply(f, now)
		return
	}
	if f.Topic != s.config.Role.String() && f.Topic != "" {
		s.stats.Unknown++
		return
	}
	s.handlePush(f, now)
}

func (s *Session) handlePush(f Frame, now time.Time) {
	switch f.Event {
	case EventClose:
		s.lose("portal closed the channel", now)
		return
	case EventError:
		// The portal closes the websocket if it means it.
		s.tell(Unknown{Name: EventError})
		return
	}
	m, err := DecodeFromPortal(s.config.Role, f)
	if err != nil {
		s.malformed(err)
		return
	}
	switch m := m.(type) {
	case Unknown:
		s.stats.Unknown++
	case Disconnect:
		if m.Reason == ReasonTokenExpired {
			s.tell(m)
			s.end(&FatalError{Kind: TokenInvalid, Detail: m.Reason})
			return
		}
	}
	s.tell(m)
}

func (s *Session) malformed(err error) {
	s.stats.Malformed++
	s.tell(Malformed{Err: err})
}

func (s *Session) handleReply(f Frame, now time.Time) {
	reply, err := ParseReply(f.Payload)
	ref, numbered := f.Ref.Number()
	if err != nil {
		s.malformed(err)
		return
	}
	own := f.Topic == s.config.Role.String()
	switch {
	case f.Topic == TopicPhoenix:
		// An answer proves the channel alive, so it also stands for the beats before it.
		s.beats = slices.DeleteFunc(s.beats, func(b uint64) bool { return numbered && b <= ref })
	case own && s.state == Joining && numbered && ref == s.joinRef:
		s.handleJoinReply(reply)
	case own && s.state == Joined && !reply.OK && reply.Reason == ReasonUnmatchedTopic:
		s.tell(Disconnected{Why: "portal forgot the channel", Retry: 1})
		s.join(now)
	case own && numbered:
		s.handleMessageReply(ref, reply)
	}
}

func (s *Session) handleJoinReply(r Reply) {
	if !r.OK {
		s.end(&FatalError{Kind: JoinRefused, Detail: r.Reason})
		return
	}
	s.state = Joined
	s.stats.Joins++
	s.retry.reset(true)
	s.tell(Connected{})
}

// handleMessageReply reports refusals; nobody waits for a success.
func (s *Session) handleMessageReply(ref uint64, r Reply) {
	i := slices.IndexFunc(s.sent, func(p sentRef) bool { return p.ref == ref })
	if i < 0 {
		return
	}
	event := s.sent[i].event
	s.sent = slices.Delete(s.sent, i, i+1)
	if !r.OK {
		s.stats.Rejected++
		s.tell(Rejected{Name: event, Reason: r.Reason})
	}
}

// Send writes m if the channel is joined.
func (s *Session) Send(m Message, now time.Time) error {
	s.now = now
	if s.state != Joined {
		return ErrNotJoined
	}
	f, err := EncodeFromDevice(s.config.Role, s.config.Dialect, m)
	if err != nil {
		return err
	}
	if len(s.sent) == maxSent {
		s.sent = slices.Delete(s.sent, 0, 1)
	}
	s.sent = append(s.sent, sentRef{s.write(f.Topic, f.Event, f.Payload), f.Event})
	return nil
}

// Reconnect closes what there is and connects anew at once, with fresh back-off: the network has
// changed, or the device's key. The driver is to use its present parameters for the new attempt.
func (s *Session) Reconnect(now time.Time) {
	s.now = now
	if s.state == Ended {
		return
	}
	wasJoined := s.state == Joined
	s.hangup(true)
	s.retry.reset(s.retry.joined)
	if wasJoined {
		s.tell(Disconnected{Why: "reconnecting", Retry: 1})
	}
	s.dial(now)
}

// Close ends the session of our own accord.
func (s *Session) Close(now time.Time) {
	s.now = now
	if s.state == Ended {
		return
	}
	s.hangup(true)
	s.state = Ended
	s.out.Over = true
}
