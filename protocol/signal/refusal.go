package signal

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ProblemType is the media type of refusals (RFC 9457).
const ProblemType = "application/problem+json"

// MaxProblem bounds how much of a refusal's body is read. One takes about 150 bytes.
const MaxProblem = 16 << 10

// Codes of problems.
const (
	CodeInvalidParams    = "invalid_connect_params"
	CodeMissingToken     = "missing_token"
	CodeInvalidToken     = "invalid_token"
	CodeLimitsExceeded   = "limits_exceeded"
	CodeAccountDisabled  = "account_disabled"
	CodeAlreadyConnected = "gateway_already_connected"
	CodeRateLimit        = "rate_limit"
	CodeUnhandled        = "unhandled_connect_error"
)

// Problem is the body of a refused upgrade.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// Refusal is the answer to an upgrade that is not 101.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Problem is the body, or zero if it is none.
	Problem Problem
	// RetryAfter is the header as it came, or empty.
	RetryAfter string
}

// NewRefusal makes a portal's refusal; title is the status in words.
func NewRefusal(status int, title, code, detail string) Refusal {
	return Refusal{Status: status, Problem: Problem{"about:blank", title, status, detail, code}}
}

// ParseRefusal reads the answer to an upgrade. The body counts only if contentType says that it
// is a problem.
func ParseRefusal(status int, contentType, retryAfter string, body []byte) Refusal {
	r := Refusal{Status: status, RetryAfter: retryAfter}
	media, _, _ := strings.Cut(contentType, ";")
	if len(body) > MaxProblem || !strings.EqualFold(strings.TrimSpace(media), ProblemType) {
		return r
	}
	var p Problem
	if json.Unmarshal(body, &p) == nil {
		p.Type, p.Title, p.Detail, p.Code = clip(p.Type), clip(p.Title), clip(p.Detail), clip(p.Code)
		r.Problem = p
	}
	return r
}

// Body returns the problem as JSON.
func (r Refusal) Body() []byte {
	b, err := marshal(r.Problem)
	if err != nil {
		panic(err) // strings and a number always marshal
	}
	return b
}

// Fatal returns why the device must not try again, or nil: only 401 is final.
func (r Refusal) Fatal() *FatalError {
	if r.Status != 401 {
		return nil
	}
	if r.Problem.Code == CodeInvalidToken || r.Problem.Code == CodeMissingToken {
		return &FatalError{Kind: TokenInvalid, Detail: r.Problem.Detail}
	}
	return &FatalError{Kind: AuthenticationFailed, Detail: r.Problem.Detail}
}

// String describes the refusal for a log.
func (r Refusal) String() string {
	if r.Problem.Code == "" {
		return fmt.Sprintf("portal answers %d", r.Status)
	}
	return fmt.Sprintf("portal answers %d %s: %q", r.Status, r.Problem.Code, r.Problem.Detail)
}

// maxRetryAfter bounds how long a portal can keep a device away by a header.
const maxRetryAfter = 24 * time.Hour

// Wait returns how long the portal asks to stay away, and whether it does. The header is a
// number of seconds or an HTTP date, of which one in the past means at once.
func (r Refusal) Wait(now time.Time) (wait time.Duration, ok bool) {
	v := strings.TrimSpace(r.RetryAfter)
	if seconds, err := strconv.ParseUint(v, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second, true
	}
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if at, err := time.Parse(layout, v); err == nil {
			return min(max(at.Sub(now), 0), maxRetryAfter), true
		}
	}
	return 0, false
}

// FatalKind says why a session is over.
type FatalKind uint8

// The kinds.
const (
	// TokenInvalid: the stored token is of no use any more.
	TokenInvalid FatalKind = iota + 1
	// AuthenticationFailed: refused, but the token may still be good.
	AuthenticationFailed
	// JoinRefused: the portal let us in but not join.
	JoinRefused
	// RetriesSpent: the portal was out of reach for longer than allowed.
	RetriesSpent
)

var fatalWords = map[FatalKind]string{
	TokenInvalid:         "token is invalid or expired",
	AuthenticationFailed: "authentication failed",
	JoinRefused:          "portal refuses the login",
	RetriesSpent:         "portal is out of reach for too long",
}

// FatalError ends a session for good. The process should exit with a failure.
type FatalError struct {
	Kind   FatalKind
	Detail string
}

// Error returns a sentence.
func (e *FatalError) Error() string {
	if e.Detail == "" {
		return fatalWords[e.Kind]
	}
	return fmt.Sprintf("%s: %s", fatalWords[e.Kind], clip(e.Detail))
}
