package signal

import (
	"math/rand/v2"
	"time"
)

// State is where a Session stands.
type State uint8

// The states. Every session starts in Connecting.
const (
	// Connecting: the driver is to open a websocket.
	Connecting State = iota
	// Joining: the websocket is open, the join unanswered.
	Joining
	// Joined: messages flow.
	Joined
	// Waiting: between two attempts.
	Waiting
	// Ended: nothing will happen any more.
	Ended
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"connecting", "joining", "joined", "waiting", "ended"}[s]
}

// SessionConfig is what a session is started with.
type SessionConfig struct {
	Role    Role
	Dialect Dialect
	// Join is sent by relays; gateways and clients leave it zero.
	Join Join
	// MaxPartition is how long, in sum of its delays, the session tries to come back after it
	// has been joined once. Zero is for ever.
	MaxPartition time.Duration
	// Seed is where jitter comes from.
	Seed [32]byte
}

// Session keeps a device's channel alive: it decides when to connect, join, beat, give up and
// come back. Its driver owns the websocket and follows these obligations:
//
//  1. After every Handle, Send, Reconnect and Close it drains. It writes Frames in order to the
//     open websocket, then obeys Hangup, then Dial.
//  2. After a Hangup it gives the session nothing more from that websocket or attempt.
//  3. It answers every Dial with HandleOpen, HandleRefused or HandleFailed, unless a Hangup
//     comes first, and tells the end of an open websocket with HandleClosed.
//  4. It calls HandleTimeout no later than NextTimeout says.
//
// A Session is not safe for concurrent use.
type Session struct {
	config SessionConfig
	rng    *rand.Rand
	state  State
	now    time.Time
	out    SessionOutput
	stats  SessionStats

	retry   backoff
	ref     uint64
	joinRef uint64
	beats   []uint64 // unanswered heartbeats
	sent    []sentRef

	// Deadlines; which of them count depends on the state.
	connectBy, joinBy, beatAt, retryAt time.Time
}

// sentRef is a message that the portal may answer.
type sentRef struct {
	ref   uint64
	event string
}

// SessionStats counts since the start.
type SessionStats struct {
	Dials, Joins, Losses, Malformed, Unknown, Rejected uint64
}

// SessionOutput is what a session wants done.
type SessionOutput struct {
	// Frames are texts to write, owned by the output.
	Frames [][]byte
	// Hangup asks to close the websocket, or to abandon the attempt to open one.
	Hangup *Hangup
	// Dial asks to open a websocket.
	Dial bool
	// Messages are for the application, in order, notices among them.
	Messages []Message
	// Fatal is set when the session is over for good; nil in it, with Over, is our own Close.
	Fatal *FatalError
	// Over says that the session has ended.
	Over bool
}

// Hangup says how to close a websocket.
type Hangup struct {
	// Graceful asks for a closing handshake with code 1000; otherwise the connection is dropped.
	Graceful bool
}

// Timings, all of the deployed devices.
const (
	// connectTimeout covers TCP, TLS and upgrade.
	connectTimeout = 15 * time.Second
	joinTimeout    = 5 * time.Second
	// heartbeatInterval is independent of traffic. Portals drop sockets silent for 37 s.
	heartbeatInterval = 10 * time.Second
	// maxBeats is how many heartbeats may be unanswered. One more, and the channel is dead.
	maxBeats = 3
)

// maxSent bounds how many messages wait for a reply at once. Nearly none is ever answered; the
// oldest is forgotten.
const maxSent = 64

// NewSession returns a session that asks to be dialled.
func NewSession(c SessionConfig, now time.Time) *Session {
	s := &Session{config: c, rng: rand.New(rand.NewChaCha8(c.Seed)), now: now}
	s.retry.reset(false)
	s.dial(now)
	return s
}

// State returns where the session stands.
func (s *Session) State() State { return s.state }

// Stats returns the counters.
func (s *Session) Stats() SessionStats { return s.stats }

// NextTimeout returns when HandleTimeout is due and why. It reports false when nothing is.
func (s *Session) NextTimeout() (at time.Time, why string, ok bool) {
	if s.out.pending() {
		return s.now, "output pending", true
	}
	switch s.state {
	case Connecting:
		return s.connectBy, "connect", true
	case Joining:
		if s.beatAt.Before(s.joinBy) {
			return s.beatAt, "heartbeat", true
		}
		return s.joinBy, "join", true
	case Joined:
		return s.beatAt, "heartbeat", true
	case Waiting:
		return s.retryAt, "retry", true
	}
	return time.Time{}, "", false
}

// HandleTimeout does what is due.
func (s *Session) HandleTimeout(now time.Time) {
	s.now = now
	switch {
	case s.state == Connecting && !now.Before(s.connectBy):
		s.lose("portal does not let us connect in time", now)
	case s.state == Joining && !now.Before(s.joinBy):
		s.lose("portal does not answer the join", now)
	case s.state == Waiting && !now.Before(s.retryAt):
		s.dial(now)
	case s.open() && !now.Before(s.beatAt):
		s.beat(now)
	}
}

// Drain moves the output to out, whose memory it reuses.
func (s *Session) Drain(out *SessionOutput) {
	out.reset()
	*out, s.out = s.out, *out
}

func (s *Session) open() bool { return s.state == Joining || s.state == Joined }

func (s *Session) dial(now time.Time) {
	s.state = Connecting
	s.connectBy = now.Add(connectTimeout)
	s.out.Dial = true
	s.stats.Dials++
}

// hangup drops whatever there is of a websocket and what was meant for it.
func (s *Session) hangup(graceful bool) {
	if s.open() || s.state == Connecting {
		s.out.Hangup = &Hangup{Graceful: graceful && s.open()}
	}
	if !graceful {
		s.out.Frames = nil
	}
	s.out.Dial = false
}

// lose is the one way from an attempt or a channel to the next attempt, or to the end.
func (s *Session) lose(why string, now time.Time) {
	s.stats.Losses++
	s.hangup(false)
	delay, ok := s.retry.next(s.rng, s.config.MaxPartition)
	if !ok {
		s.end(&FatalError{Kind: RetriesSpent, Detail: why})
		return
	}
	s.wait(why, delay, now)
}

func (s *Session) wait(why string, delay time.Duration, now time.Time) {
	s.state = Waiting
	s.retryAt = now.Add(delay)
	s.retry.attempts++
	s.tell(Disconnected{Why: clip(why), Retry: s.retry.attempts, In: delay})
}

func (s *Session) end(why *FatalError) {
	s.hangup(false)
	s.state = Ended
	s.out.Fatal, s.out.Over = why, true
}

func (s *Session) beat(now time.Time) {
	ref := s.write(TopicPhoenix, EventHeartbeat, []byte("{}"))
	s.beats = append(s.beats, ref)
	s.beatAt = now.Add(heartbeatInterval)
	if len(s.beats) > maxBeats {
		s.lose("portal does not answer heartbeats", now)
	}
}

// write appends a frame with the next ref of this connection.
func (s *Session) write(topic, event string, payload []byte) (ref uint64) {
	ref = s.ref
	s.ref++
	f := Frame{Topic: topic, Event: event, Payload: payload, Ref: NumberRef(ref)}
	s.out.Frames = append(s.out.Frames, f.DeviceText())
	return ref
}

func (s *Session) tell(m Message) { s.out.Messages = append(s.out.Messages, m) }

func (o *SessionOutput) pending() bool {
	return len(o.Frames)+len(o.Messages) > 0 || o.Hangup != nil || o.Dial || o.Over
}

func (o *SessionOutput) reset() {
	clear(o.Frames)
	clear(o.Messages)
	*o = SessionOutput{Frames: o.Frames[:0], Messages: o.Messages[:0]}
}
