package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	// ingestInterval is how often one address may upload flow records.
	ingestInterval = time.Second
	// maxIngesting bounds uploads at a time: each may take its body and as much again.
	maxIngesting = 8
	// An upload has uploadGrace and, for each uploadRate bytes that have come, a second more, but a minute
	// in all as any request: whoever sends nothing does not keep a place for long.
	uploadGrace = 5 * time.Second
	uploadRate  = 16 << 10
	// ingestTime bounds the storing of one upload: ten thousand records take about a second.
	ingestTime = 30 * time.Second
)

// serveIngest takes an upload of flow records. It answers when they are on the disk.
func (s *Server) serveIngest(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	if wait, ok := s.ingests.take(s.clientAddr(r), now); !ok {
		tooManyUploads(w, wait)
		return
	}
	ingest := portal.Ingest{Secret: s.secret}
	authorization := r.Header.Get("Authorization")
	if u := ingest.Accept(authorization, nil, now); u.Status == http.StatusUnauthorized {
		answerUpload(w, &u) // before the body of a stranger is read
		return
	}
	device, ok := s.uploader(authorization)
	if !ok {
		problem(w, http.StatusUnauthorized, "The token's account is not in the policy file")
		return
	}
	if !s.uploading.begin(device) {
		tooManyUploads(w, time.Second)
		return
	}
	defer s.uploading.end(device)
	select {
	case s.ingesting <- struct{}{}:
		defer func() { <-s.ingesting }()
	default:
		tooManyUploads(w, time.Second)
		return
	}
	paced := &pacedReader{r: r.Body, deadline: http.NewResponseController(w).SetReadDeadline, began: now, grace: s.options.uploadGrace}
	body, err := io.ReadAll(io.LimitReader(paced, portal.MaxIngestBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		problem(w, http.StatusRequestTimeout, "The upload is too slow")
		return
	case err != nil:
		return // the device is gone
	}
	u := ingest.Accept(authorization, body, now)
	if len(u.Logs) > 0 {
		if s.account(u.Account) == nil { // the policy file has changed while the body was read
			problem(w, http.StatusUnauthorized, "The token's account is not in the policy file")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), ingestTime)
		defer cancel()
		if _, err := s.store.PutFlowLogs(ctx, u.Account, u.Logs); err != nil {
			s.log.Error("cannot store flow records", "records", len(u.Logs), "error", err)
			problem(w, http.StatusServiceUnavailable, "The records cannot be stored now")
			return
		}
	}
	answerUpload(w, &u)
}

func answerUpload(w http.ResponseWriter, u *portal.Upload) {
	w.Header().Set("Content-Type", u.ContentType)
	w.WriteHeader(u.Status)
	_, _ = w.Write(u.Body)
}

func tooManyUploads(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", retryAfter(wait))
	problem(w, http.StatusTooManyRequests, "Too many uploads from this address or device, or at a time")
}

// problem writes a problem document without a code.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", signal.ProblemType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}

// uploader returns who has the token, which has been verified: one end of an authorization in an account
// that is in the policy file.
func (s *Server) uploader(authorization string) (device signal.ID, ok bool) {
	claims, err := signal.ParseIngestToken(signal.NewSecret(strings.TrimPrefix(authorization, "Bearer ")))
	if err != nil || s.account(claims.AccountID.String()) == nil {
		return device, false
	}
	if claims.Role == signal.Initiator {
		return claims.InitiatorDeviceID, true
	}
	return claims.ResponderDeviceID, true
}

// busy are devices that do something of which each may do one at a time. It is bounded by maxIngesting,
// and those that are refused a place.
type busy struct {
	mu      sync.Mutex
	devices map[signal.ID]bool
}

func (b *busy) begin(d signal.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.devices[d] {
		return false
	}
	if b.devices == nil {
		b.devices = map[signal.ID]bool{}
	}
	b.devices[d] = true
	return true
}

func (b *busy) end(d signal.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.devices, d)
}

// pacedReader reads a body as long as it comes fast enough, else it returns os.ErrDeadlineExceeded.
type pacedReader struct {
	r        io.Reader
	deadline func(time.Time) error
	began    time.Time
	grace    time.Duration
	n        int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	earned := time.Duration(p.n) * time.Second / uploadRate
	if err := p.deadline(p.began.Add(min(p.grace+earned, requestTime))); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}
