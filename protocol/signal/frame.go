package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Names that belong to the framing and not to a role.
const (
	EventJoin      = "phx_join"
	EventLeave     = "phx_leave"
	EventReply     = "phx_reply"
	EventClose     = "phx_close"
	EventError     = "phx_error"
	EventHeartbeat = "heartbeat"
	// TopicPhoenix is the topic of heartbeats.
	TopicPhoenix = "phoenix"
)

// maxName bounds topics and events. The longest of the protocol has 36 bytes.
const maxName = 128

// maxRef bounds a ref, which a portal echoes and so has to keep for a moment.
const maxRef = 64

// Frame is one websocket text message: a JSON object of topic, event, payload and ref, the first
// version of Phoenix' serializer. (The second version, arrays, is only spoken after vsn=2.0.0.)
type Frame struct {
	Topic string
	Event string
	// Payload is any JSON value. Empty stands for null.
	Payload []byte
	// Ref pairs a reply with its request. Pushes have none.
	Ref Ref
}

// Ref is a ref as it was written: a number, a string, or null, which is its zero value. Devices
// write numbers; a portal echoes what it got.
type Ref struct{ raw string }

// NumberRef returns the ref n.
func NumberRef(n uint64) Ref { return Ref{raw: strconv.FormatUint(n, 10)} }

// Number returns the ref as a number, and whether it is one. A string of digits counts.
func (r Ref) Number() (n uint64, ok bool) {
	s := r.raw
	if len(s) > 2 && s[0] == '"' {
		s = s[1 : len(s)-1]
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// IsNull reports whether the frame expects no reply and is none.
func (r Ref) IsNull() bool { return r.raw == "" }

// String returns the ref as it is written.
func (r Ref) String() string {
	if r.IsNull() {
		return "null"
	}
	return r.raw
}

// MarshalJSON writes the ref as it was read.
func (r Ref) MarshalJSON() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalJSON accepts a number, a string or null.
func (r *Ref) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > maxRef:
		return fmt.Errorf("ref of %d bytes is longer than %d", len(b), maxRef)
	case string(b) == "null":
		r.raw = ""
	case b[0] == '"' || b[0] == '-' || b[0] >= '0' && b[0] <= '9':
		r.raw = string(b)
	default:
		return errors.New("ref is neither number, string nor null")
	}
	return nil
}

// ParseFrame decodes one text message. The frame is a copy. An absent payload or ref is null; an
// absent topic is empty, which a device takes for its own.
func ParseFrame(text []byte, l Limits) (Frame, error) {
	if err := l.scan(text); err != nil {
		return Frame{}, err
	}
	var f struct {
		Topic   string          `json:"topic"`
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
		Ref     Ref             `json:"ref"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return Frame{}, fmt.Errorf("parse frame: %w", plain(err))
	}
	switch {
	case f.Event == "":
		return Frame{}, errors.New("parse frame: event is missing")
	case len(f.Event) > maxName || len(f.Topic) > maxName:
		return Frame{}, fmt.Errorf("parse frame: event or topic is longer than %d bytes", maxName)
	}
	if string(f.Payload) == "null" {
		f.Payload = nil
	}
	return Frame{Topic: f.Topic, Event: f.Event, Payload: f.Payload, Ref: f.Ref}, nil
}

// DeviceText returns f as devices write it: all four keys, topic first.
func (f Frame) DeviceText() []byte {
	b := appendKey(nil, '{', "topic", quote(f.Topic))
	b = appendKey(b, ',', "event", quote(f.Event))
	b = appendKey(b, ',', "payload", f.payload())
	b = appendKey(b, ',', "ref", f.Ref.String())
	return append(b, '}')
}

// PortalText returns f as the portal writes it: all four keys in the order of the alphabet.
func (f Frame) PortalText() []byte {
	b := make([]byte, 0, len(f.Payload)+len(f.Event)+len(f.Topic)+maxRef+len(`{"event":"","payload":null,"ref":,"topic":""}`))
	b = appendKey(b, '{', "event", quote(f.Event))
	b = appendKey(b, ',', "payload", f.payload())
	b = appendKey(b, ',', "ref", f.Ref.String())
	b = appendKey(b, ',', "topic", quote(f.Topic))
	return append(b, '}')
}

func (f Frame) payload() []byte {
	if len(f.Payload) == 0 {
		return []byte("null")
	}
	return f.Payload
}

func appendKey[T string | []byte](b []byte, sep byte, key string, value T) []byte {
	b = append(b, sep, '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return append(b, value...)
}

func quote(s string) string {
	b, err := marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(b)
}

// Reply is the payload of a phx_reply.
type Reply struct {
	// OK tells {"status":"ok"} from everything else.
	OK bool
	// Reason says why not.
	Reason string
}

// Reasons of refusals that have a meaning here.
const (
	ReasonUnmatchedTopic = "unmatched topic"
	ReasonUnknownMessage = "unknown_message"
	ReasonInvalidRef     = "invalid_ref"
	ReasonTokenExpired   = "token_expired"
	// ReasonInvalidVersion refuses the join of a device that is too old, or too new.
	ReasonInvalidVersion = "invalid_version"
)

// Frame returns the reply to the frame with this topic and ref. The response of a success is an
// empty object: deployed devices take anything else, null included, for no answer to their join.
func (r Reply) Frame(topic string, ref Ref) Frame {
	payload := `{"response":{},"status":"ok"}`
	if !r.OK {
		payload = `{"response":{"reason":` + quote(r.Reason) + `},"status":"error"}`
	}
	return Frame{Topic: topic, Event: EventReply, Payload: []byte(payload), Ref: ref}
}

// ParseReply decodes the payload of a phx_reply.
func ParseReply(payload []byte) (Reply, error) {
	var p struct {
		Status   string          `json:"status"`
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return Reply{}, fmt.Errorf("parse reply: %w", plain(err))
	}
	switch p.Status {
	case "ok":
		return Reply{OK: true}, nil
	case "error":
	default:
		return Reply{}, &FieldError{Event: EventReply, Field: "status", Problem: "is neither ok nor error"}
	}
	var response struct {
		Reason json.RawMessage `json:"reason"`
	}
	var reason string
	if json.Unmarshal(p.Response, &response) != nil || json.Unmarshal(response.Reason, &reason) != nil {
		reason = "unknown" // a reason of another shape is still a refusal
	}
	return Reply{Reason: clip(reason)}, nil
}

// marshal is json.Marshal that leaves <, > and & alone, as the deployed peers do.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// maxText bounds strings of a peer's that end up in errors and logs.
const maxText = 256

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "…"
}

// plain reduces an error of encoding/json to what may be logged: a type error carries no bytes
// of the input but for numbers, a syntax error one character.
func plain(err error) error {
	if len(err.Error()) <= maxText {
		return err
	}
	return errors.New(clip(err.Error()))
}
