package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// Scopes are what tokens of the API may do; they are the tokens' subjects.
const (
	// ReadScope may look at everything of its account.
	ReadScope = "read"
	// WriteScope may also make and revoke tokens, and change devices and people; for the portal as a
	// whole, also take backups.
	WriteScope = "write"
)

const (
	apiVersion = "1"
	apiPrefix  = "/api/v1"
	// openAPIPath is where the document is, without its ending.
	openAPIPath = "/api/openapi"
	// maxAPIBody bounds bodies other than policy files: requests are a few lines.
	maxAPIBody = 64 << 10
	// A token may ask apiBurst times at once and every apiInterval from then on.
	apiBurst    = 200
	apiInterval = time.Second / 50
)

// api serves the HTTP API. Everything is within the account of the token that asks.
type api struct {
	*Server
	rates *limiter[string]
}

// callerKey is where the token that asks is in a context.
type callerKey struct{}

func caller(ctx context.Context) store.Token {
	t, _ := ctx.Value(callerKey{}).(store.Token)
	return t
}

// apiRoutes registers all operations; the OpenAPI document is made from the same registrations.
func (s *Server) apiRoutes(mux *http.ServeMux) {
	c := huma.DefaultConfig("firelane portal", apiVersion)
	c.Info.Description = "Live state and tokens of one account, that of the token in the Authorization header; or, with a token for the portal as a whole, the tokens of relays, and backups."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = openAPIPath, "", "", nil
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "Made by: firelane portal token create --api read; for the portal as a whole, with --portal."},
	}
	c.Security = []map[string][]string{{"token": {}}}
	a := &api{s, newLimiter[string](apiBurst, apiInterval)}
	h := humago.New(mux, c)
	h.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) { a.enter(h, ctx, next) })
	a.registerState(h)
	a.registerTokens(h)
	a.registerChanges(h)
	a.registerPolicy(h)
	a.registerBackup(h)
}

// enter lets tokens of the API in.
func (a *api) enter(h huma.API, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || text == "" || len(text) > maxHeader {
		w.Header().Set("WWW-Authenticate", "Bearer")
		_ = huma.WriteErr(h, ctx, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	now := time.Now()
	token, refusal := a.authenticate(r.Context(), text, a.clientAddr(r), now, store.APIToken)
	if refusal != nil {
		if refusal.RetryAfter != "" {
			w.Header().Set("Retry-After", refusal.RetryAfter)
		}
		_ = huma.WriteErr(h, ctx, refusal.Status, refusal.Problem.Detail)
		return
	}
	if wait, ok := a.rates.take(token.ID, now); !ok {
		w.Header().Set("Retry-After", retryAfter(wait))
		_ = huma.WriteErr(h, ctx, http.StatusTooManyRequests, "too many requests")
		return
	}
	if ctx.Operation().Metadata[scopeKey] == WriteScope && token.Subject != WriteScope {
		_ = huma.WriteErr(h, ctx, http.StatusForbidden, "the token may only read")
		return
	}
	a.uses.note(&token, now)
	w.Header().Set("Cache-Control", "no-store")
	next(huma.WithValue(ctx, callerKey{}, token))
}

// scopeKey is the metadata of an operation that says which scope it needs.
const scopeKey = "scope"

// operation describes one; what it changes needs the scope for it.
func operation(method, path, id, summary string) huma.Operation {
	o := huma.Operation{
		OperationID: id, Method: method, Path: apiPrefix + path, Summary: summary, MaxBodyBytes: maxAPIBody,
		Metadata: map[string]any{scopeKey: ReadScope},
		Errors:   []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	if method != http.MethodGet {
		o.Metadata[scopeKey] = WriteScope
	}
	return o
}

// Paging is asked for with every list.
type Paging struct {
	After string `query:"after" maxLength:"64" doc:"Only what comes after this; take it from next."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
}

// page is one part of a list.
type page[T any] struct {
	Body struct {
		Items []T    `json:"items" nullable:"false"`
		Next  string `json:"next,omitempty" doc:"Ask again with this as after for what follows; absent at the end."`
	}
}

// pageOf makes a page; full says whether there may be more after last.
func pageOf[T any](items []T, full bool, last string) *page[T] {
	p := &page[T]{}
	p.Body.Items = items
	if items == nil {
		p.Body.Items = []T{}
	}
	if full {
		p.Body.Next = last
	}
	return p
}

// ByID is asked for with every operation on one thing.
type ByID struct {
	ID string `path:"id" maxLength:"64"`
}

// apiError translates errors of the store.
func (a *api) apiError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return huma.Error404NotFound("there is no such thing in this account")
	case errors.Is(err, store.ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, store.ErrFull):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, store.ErrBusy):
		return huma.Error503ServiceUnavailable("the portal is busy")
	}
	a.log.Error("cannot "+what, "error", err)
	return huma.Error500InternalServerError("the portal cannot do that now")
}

// ownAccount is the caller's account in the policy file.
func (a *api) ownAccount(ctx context.Context) (*config.Account, error) {
	if acc := a.account(caller(ctx).Account); acc != nil {
		return acc, nil
	}
	return nil, huma.Error403Forbidden("the account is not in the policy file")
}

// timeOrNil is left out of answers when it is not set.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
