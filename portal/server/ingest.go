package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	// ingestInterval is how often one address may upload flow records.
	ingestInterval = time.Second
	// maxIngesting bounds uploads at a time: each may take its body and as much again.
	maxIngesting = 8
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
	select {
	case s.ingesting <- struct{}{}:
		defer func() { <-s.ingesting }()
	default:
		tooManyUploads(w, time.Second)
		return
	}
	ingest := portal.Ingest{Secret: s.secret}
	authorization := r.Header.Get("Authorization")
	if u := ingest.Accept(authorization, nil, now); u.Status == http.StatusUnauthorized {
		answerUpload(w, &u) // before the body of a stranger is read
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, portal.MaxIngestBody+1))
	if err != nil {
		return // the device is gone, or too slow
	}
	u := ingest.Accept(authorization, body, now)
	if len(u.Logs) > 0 {
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
	problem(w, http.StatusTooManyRequests, "Too many uploads from this address")
}

// problem writes a problem document without a code.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", signal.ProblemType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}
