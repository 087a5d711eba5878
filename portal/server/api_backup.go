package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/firelane/firelane/portal/store"
)

// backupType is the media type of a backup.
const backupType = "application/octet-stream"

func (a *api) registerBackup(h huma.API) {
	// Not GET, which would also answer HEAD: each takes a copy of the database.
	o := operation(http.MethodPost, "/backup", "backup", "Copy the database, as it is at one instant, and the policy file in force; only with a token for the portal as a whole")
	o.DefaultStatus = http.StatusOK
	o.Errors = append(o.Errors, http.StatusBadRequest, http.StatusInternalServerError)
	o.Responses = map[string]*huma.Response{"200": {
		Description: "A tar archive with " + databaseName + " and " + databaseName + policySuffix + ". It holds secrets. Without as many bytes as announced it is of no use.",
		Content:     map[string]*huma.MediaType{backupType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	huma.Register(h, o, func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
		if caller(ctx).Account != store.Portal {
			return nil, huma.Error403Forbidden("a backup has all accounts: a token for the portal as a whole is needed")
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) { a.serveBackup(ctx, h, hc) }}, nil
	})
}

// serveBackup makes a backup and sends it, unless another is under way.
func (a *api) serveBackup(ctx context.Context, h huma.API, hc huma.Context) {
	r, w := humago.Unwrap(hc)
	// What is left of a body would keep the connection from being watched, and then from being answered.
	if n, err := io.CopyN(io.Discard, r.Body, 1); n > 0 || err != io.EOF {
		_ = huma.WriteErr(h, hc, http.StatusBadRequest, "a backup is asked for without a body")
		return
	}
	ctx, end, ok := a.backups.begin(ctx)
	if !ok {
		w.Header().Set("Retry-After", retryAfter(backupRetry))
		_ = huma.WriteErr(h, hc, http.StatusServiceUnavailable, "another backup is under way, or the portal ends")
		return
	}
	defer end()
	c := http.NewResponseController(w)
	archive, err := a.openArchive(ctx, time.Now())
	if err != nil {
		if ctx.Err() == nil { // somebody waits for it
			a.log.Error("cannot back up", "error", err)
		}
		_ = c.SetWriteDeadline(time.Now().Add(backupWait)) // copying may have taken longer than a request may
		_ = huma.WriteErr(h, hc, http.StatusInternalServerError, "the portal cannot do that now")
		return
	}
	defer archive.close()
	w.Header().Set("Content-Type", backupType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+archive.name()+`"`)
	w.Header().Set("Content-Length", strconv.FormatInt(archive.length(), 10))
	hc.SetStatus(http.StatusOK)
	if err := archive.writeTo(&steadyWriter{ctx, w, c.SetWriteDeadline}); err != nil {
		// The connection ends, as less than announced has come. The error has the caller's address.
		a.log.Warn("a backup has not been taken to its end", "by", caller(ctx).ID, "slow", errors.Is(err, os.ErrDeadlineExceeded))
		a.log.Debug("a backup has not been taken to its end", "error", err)
		return
	}
	a.log.Info("a backup has been sent", "by", caller(ctx).ID, "bytes", archive.length())
}
