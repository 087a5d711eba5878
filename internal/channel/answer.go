package channel

import (
	"github.com/firelane/firelane/protocol/signal"
)

// reasonInvalidMessage answers a message whose fields are not as they must be.
const reasonInvalidMessage = "invalid_message"

// handle takes one text from the device. What is malformed is counted, and answered where a
// device could be waiting; it does not end the link.
func (l *Link) handle(text []byte) {
	f, err := signal.ParseFrame(text, signal.FromDevice)
	own := l.role.String()
	switch {
	case err != nil:
		l.server.count(func(s *ServerStats) { s.Malformed++ })
	case f.Topic == signal.TopicPhoenix && f.Event == signal.EventHeartbeat:
		l.reply(f, signal.Reply{OK: true})
	case f.Topic != own:
		l.reply(f, signal.Reply{Reason: signal.ReasonUnmatchedTopic})
	case f.Event == signal.EventJoin:
		l.handleJoin(f)
	case !l.isJoined():
		l.reply(f, signal.Reply{Reason: signal.ReasonUnmatchedTopic})
	case f.Event == signal.EventLeave:
		l.reply(f, signal.Reply{OK: true})
		l.Leave()
	default:
		l.handleMessage(f)
	}
}

func (l *Link) handleJoin(f signal.Frame) {
	l.setJoined(false)
	l.spend(rateOf(l.role).each)
	j, err := signal.ParseJoin(l.role, f.Payload)
	if err != nil {
		l.server.count(func(s *ServerStats) { s.Malformed++ })
		l.reply(f, signal.Reply{Reason: reasonInvalidMessage})
		return
	}
	if refusal := l.handler.Join(l, j); refusal != "" {
		l.reply(f, signal.Reply{Reason: refusal})
		return
	}
	l.reply(f, signal.Reply{OK: true})
	if l.setJoined(true) {
		l.handler.Joined(l)
	}
}

// setJoined returns whether the link is joined now: one that ends does not become so.
func (l *Link) setJoined(joined bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joined = joined && !l.gone && !l.ending
	return l.joined
}

func (l *Link) handleMessage(f signal.Frame) {
	m, err := signal.DecodeFromDevice(l.role, f)
	if err != nil {
		l.server.count(func(s *ServerStats) { s.Malformed++ })
		l.reply(f, signal.Reply{Reason: reasonInvalidMessage})
		return
	}
	if _, ok := m.(signal.Unknown); ok {
		l.server.count(func(s *ServerStats) { s.Unknown++ })
		l.reply(f, signal.Reply{Reason: signal.ReasonUnknownMessage})
		return
	}
	if reply, answer := l.handler.Message(l, m); answer {
		l.reply(f, reply)
	}
}

// reply answers f, unless nobody waits for it.
func (l *Link) reply(f signal.Frame, r signal.Reply) {
	if f.Ref.IsNull() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := queuedText{text: r.Frame(f.Topic, f.Ref).PortalText()}
	_ = l.push(q, maxQueueBytes) // a link that cannot take it ends
}

func (l *Link) isJoined() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.joined
}
