package signal

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Message is one message of the protocol, by value.
type Message interface {
	// Event is the name on the wire, in its present form.
	Event() string
}

// Role is who is at the other end from the portal.
type Role uint8

// The roles.
const (
	RoleGateway Role = iota
	RoleClient
	RoleRelay
)

// String returns the role, which is also its topic.
func (r Role) String() string { return [...]string{"gateway", "client", "relay"}[r] }

// Dialect is which names of events a socket uses when it writes. Both are understood.
type Dialect uint8

// The dialects.
const (
	// V2 are the present names, on the paths with v2.
	V2 Dialect = iota
	// V1 are the names that contain "flow".
	V1
)

// Unknown is a message whose event this package does not know.
type Unknown struct {
	Name    string
	Payload []byte
}

// Event returns the name on the wire.
func (m Unknown) Event() string { return m.Name }

// LogValue shows the event only, since nobody knows what is inside.
func (m Unknown) LogValue() slog.Value { return slog.StringValue(m.Name) }

// RelayInit tells a relay nothing.
type RelayInit struct{}

// Event returns the name on the wire.
func (RelayInit) Event() string { return "init" }

// Join is what a device sends first. Only a relay's carries something.
type Join struct {
	// StampSecret is what the relay's credentials are derived from.
	StampSecret Secret `json:"stamp_secret,omitzero"`
}

// Event returns the name on the wire.
func (Join) Event() string { return EventJoin }

// LogValue shows the event only.
func (m Join) LogValue() slog.Value { return slog.StringValue(m.Event()) }

// Notices of Session, which are messages so that they stay in order with the others. They are
// never on the wire.
type (
	// Connected says that the channel is joined: messages may be sent, and init follows.
	Connected struct{}
	// Disconnected says that the channel is lost and everything unsent with it. It is repeated
	// for every attempt that fails.
	Disconnected struct {
		// Why is fit for a log.
		Why string
		// Retry is the number of the next attempt, from one, and In how long it is away.
		Retry int
		In    time.Duration
	}
	// Rejected says that the portal answered a message with an error.
	Rejected struct {
		// Name is the event of the message.
		Name   string
		Reason string
	}
	// Malformed says that a frame was skipped.
	Malformed struct {
		// Err names the event and the field. It holds no secret.
		Err error
	}
)

// Pushed is a notice for the portal, never on the wire: the message of this name has been written to
// its device's websocket. See DeviceAccessAuthorized.Push.
type Pushed struct{ ID ID }

// Event returns a name that is not on the wire.
func (Pushed) Event() string { return "(pushed)" }

// Event returns a name that is not on the wire.
func (Connected) Event() string { return "(connected)" }

// Event returns a name that is not on the wire.
func (Disconnected) Event() string { return "(disconnected)" }

// Event returns a name that is not on the wire.
func (Rejected) Event() string { return "(rejected)" }

// Event returns a name that is not on the wire.
func (Malformed) Event() string { return "(malformed)" }

// FieldError says which field of which message is not as it must be.
type FieldError struct {
	Event string
	// Field is a path like "client.public_key".
	Field string
	// Problem completes the sentence. Empty stands for "is missing".
	Problem string
}

// Error returns a sentence.
func (e *FieldError) Error() string {
	problem := e.Problem
	if problem == "" {
		problem = "is missing"
	}
	if e.Event == "" {
		return fmt.Sprintf("%s %s", e.Field, problem)
	}
	return fmt.Sprintf("message %s: %s %s", e.Event, e.Field, problem)
}

// DecodeFromPortal returns what the portal tells a device of this role. An event it does not
// know is Unknown and no error.
func DecodeFromPortal(r Role, f Frame) (Message, error) { return decode(fromPortal[r], f) }

// DecodeFromDevice returns what a device of this role tells the portal.
func DecodeFromDevice(r Role, f Frame) (Message, error) { return decode(fromDevice[r], f) }

func decode(known []kind, f Frame) (Message, error) {
	i := slices.IndexFunc(known, func(k kind) bool { return k.named(f.Event) })
	if i < 0 {
		return Unknown{Name: f.Event, Payload: f.Payload}, nil
	}
	payload := f.Payload
	if len(payload) == 0 {
		payload = []byte("null")
	}
	if missing := required(payload, known[i].required...); missing != "" {
		return nil, &FieldError{Event: f.Event, Field: missing}
	}
	m, err := known[i].decode(payload)
	if err == nil {
		return m, nil
	}
	var field *FieldError
	if errors.As(err, &field) {
		return nil, &FieldError{Event: f.Event, Field: field.Field, Problem: field.Problem}
	}
	return nil, fmt.Errorf("message %s: %w", f.Event, plain(err))
}

// EncodeFromDevice returns the frame for m from a device of this role, without ref.
func EncodeFromDevice(r Role, d Dialect, m Message) (Frame, error) {
	return encode(fromDevice[r], r, d, m)
}

// EncodeFromPortal returns the push of m to a device of this role.
func EncodeFromPortal(r Role, d Dialect, m Message) (Frame, error) {
	return encode(fromPortal[r], r, d, m)
}

func encode(known []kind, r Role, d Dialect, m Message) (Frame, error) {
	i := slices.IndexFunc(known, func(k kind) bool { return k.event == m.Event() })
	if i < 0 || !known[i].is(m) {
		return Frame{}, fmt.Errorf("message %T is not for this role and direction", m)
	}
	missing := ""
	payload, err := marshalMessage(m, func(payload []byte) error {
		missing = required(payload, known[i].required...)
		return check(m)
	})
	if err != nil {
		return Frame{}, fmt.Errorf("message %s: %w", m.Event(), err)
	}
	if missing != "" {
		return Frame{}, &FieldError{Event: m.Event(), Field: missing}
	}
	event := m.Event()
	if d == V1 && known[i].v1 != "" {
		event = known[i].v1
	}
	return Frame{Topic: r.String(), Event: event, Payload: payload}, nil
}

// required returns the first of the paths that object lacks, or "". A path is a list of keys
// joined by dots, each of which may be followed by [] for "every element of the list". A value
// that is null or an empty string counts as absent, but for a path that ends in "?", which may
// be the empty string.
func required(object []byte, paths ...string) string {
	if len(paths) == 0 {
		return ""
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // what is no object lacks everything
	for _, p := range paths {
		path, mayBeEmpty := strings.CutSuffix(p, "?")
		if !fieldPresent(fields, path, mayBeEmpty) {
			return path
		}
	}
	return ""
}

func fieldPresent(fields map[string]json.RawMessage, path string, mayBeEmpty bool) bool {
	key, rest, _ := strings.Cut(path, ".")
	name, each := strings.CutSuffix(key, "[]")
	value := fields[name]
	if !each {
		return present(value, rest, mayBeEmpty)
	}
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		return len(value) == 0 // the list itself may be absent
	}
	return !slices.ContainsFunc(list, func(e json.RawMessage) bool { return !present(e, rest, mayBeEmpty) })
}

func present(value []byte, path string, mayBeEmpty bool) bool {
	if path == "" {
		return len(value) > 0 && string(value) != "null" && (mayBeEmpty || string(value) != `""`)
	}
	var fields map[string]json.RawMessage
	return json.Unmarshal(value, &fields) == nil && fieldPresent(fields, path, mayBeEmpty)
}

// maxStamp bounds a stamp secret. Deployed relays send 64 characters.
const maxStamp = 256

// ParseJoin decodes the payload of a phx_join. Gateways and clients may send anything.
func ParseJoin(r Role, payload []byte) (Join, error) {
	var j Join
	if r != RoleRelay {
		return j, nil
	}
	if required(payload, "stamp_secret") != "" {
		return Join{}, &FieldError{Event: EventJoin, Field: "stamp_secret"}
	}
	if err := json.Unmarshal(payload, &j); err != nil || len(j.StampSecret.Reveal()) > maxStamp {
		return Join{}, &FieldError{Event: EventJoin, Field: "stamp_secret", Problem: "is not a string of a fitting length"}
	}
	return j, nil
}
