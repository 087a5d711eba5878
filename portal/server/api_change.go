package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// TokenView is a token without its secret.
type TokenView struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind" enum:"gateway,relay,client,service,ingest,api"`
	Subject   string     `json:"subject" doc:"The id of a site, service account or person; the scope of a token of this API."`
	For       string     `json:"for,omitempty" doc:"The name of the site or service account."`
	Name      string     `json:"name,omitempty"`
	CreatedBy string     `json:"created_by,omitempty"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	Used      *time.Time `json:"used,omitempty" doc:"To the hour."`
}

func viewToken(t *store.Token) TokenView {
	return TokenView{
		ID: t.ID, Kind: t.Kind.String(), Subject: t.Subject, Name: t.Name, CreatedBy: t.CreatedBy, Created: t.Created,
		Expires: timeOrNil(t.Expires), Revoked: timeOrNil(t.Revoked), Used: timeOrNil(t.Used),
	}
}

func (a *api) registerTokens(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/tokens", "list-tokens", "Tokens, without their secrets"), a.listTokens)
	create := operation(http.MethodPost, "/tokens", "create-token", "Make a token for gateways of a site, for a service account, for relays or for this API")
	create.DefaultStatus = http.StatusCreated
	huma.Register(h, create, a.createToken)
	huma.Register(h, operation(http.MethodDelete, "/tokens/{id}", "revoke-token", "Revoke a token; its devices are sent away at once"), a.revokeToken)
}

type tokenQuery struct {
	Paging
	Kind    string `query:"kind" enum:"gateway,relay,client,service,ingest,api"`
	Subject string `query:"subject" maxLength:"64"`
	Revoked bool   `query:"revoked" doc:"Also those that have been revoked."`
}

func (a *api) listTokens(ctx context.Context, q *tokenQuery) (*page[TokenView], error) {
	f := store.TokenFilter{Subject: q.Subject, Revoked: q.Revoked, After: q.After, Limit: q.Limit}
	f.Kind, _ = store.ParseTokenKind(q.Kind) // empty is none
	rows, err := a.store.Tokens(ctx, caller(ctx).Account, f)
	if err != nil {
		return nil, a.apiError("list tokens", err)
	}
	names := a.ownerNames(caller(ctx).Account)
	views := make([]TokenView, len(rows))
	for i := range rows {
		views[i] = viewToken(&rows[i])
		views[i].For = names[rows[i].Subject]
	}
	return pageOf(views, len(rows) == q.Limit, last(rows, func(t *store.Token) string { return t.ID })), nil
}

// tokenWish is what a new token is to be; exactly one of Site, ServiceAccount, Relay and API is set.
type tokenWish struct {
	Body struct {
		Site           string     `json:"site,omitempty" maxLength:"255" doc:"The name of a site, for a token of its gateways."`
		ServiceAccount string     `json:"service_account,omitempty" maxLength:"255" doc:"The name of a service account."`
		Relay          bool       `json:"relay,omitempty" doc:"For relays, which serve all accounts: only with a token for the portal as a whole."`
		API            string     `json:"api,omitempty" enum:"read,write" doc:"For this API, and what the token that asks is for: its account, or the portal as a whole."`
		Name           string     `json:"name,omitempty" maxLength:"255" doc:"For people who look through tokens."`
		Expires        *time.Time `json:"expires,omitempty" doc:"A service account's token must expire; in 90 days if it is left out."`
	}
}

type newToken struct {
	Body struct {
		TokenView
		Token string `json:"token" doc:"The token itself. It is shown once."`
	}
}

func (a *api) createToken(ctx context.Context, w *tokenWish) (*newToken, error) {
	file := &config.File{}
	whole := caller(ctx).Account == store.Portal
	switch {
	case !whole && w.Body.Relay:
		return nil, huma.Error403Forbidden("relays serve all accounts: a token for the portal as a whole is needed")
	case whole && (w.Body.Site != "" || w.Body.ServiceAccount != ""):
		return nil, huma.Error403Forbidden("the token is for the portal as a whole: a token of the account is needed")
	case !whole:
		acc, err := a.ownAccount(ctx)
		if err != nil {
			return nil, err
		}
		file.Accounts = []config.Account{*acc}
	}
	b := &w.Body
	wish := TokenWish{
		Site: b.Site, ServiceAccount: b.ServiceAccount, Relay: b.Relay, API: b.API, Portal: whole && !b.Relay,
		Name: b.Name, By: "api " + caller(ctx).ID,
	}
	if b.Expires != nil {
		wish.Expires = *b.Expires
	}
	order, err := wish.Order(file, time.Now())
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	t, text, err := a.store.CreateToken(ctx, order, time.Now())
	if err != nil {
		return nil, a.apiError("make a token", err)
	}
	made := &newToken{}
	made.Body.TokenView, made.Body.Token = viewToken(&t), text
	return made, nil
}

func (a *api) revokeToken(ctx context.Context, q *ByID) (*struct{}, error) {
	ctx, end := a.change(ctx)
	defer end()
	account := caller(ctx).Account
	// A commit that fails does not say whether there is such a token in this account.
	if _, err := a.store.Token(ctx, account, q.ID); err != nil {
		return nil, a.apiError("look up a token", err)
	}
	_, err := a.store.RevokeToken(ctx, account, q.ID, time.Now())
	if perhaps(err) {
		a.tokenGone(q.ID)
	}
	return nil, a.apiError("revoke a token", err)
}

// change begins a change of the store of which the machine is to be told. There is one at a time, and
// it goes on for a while when whoever has asked for it is gone.
func (s *Server) change(ctx context.Context) (_ context.Context, end func()) {
	s.changing.Lock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	return ctx, func() {
		cancel()
		s.changing.Unlock()
	}
}

// perhaps reports whether a write with this result may be in the store. What takes rights away is
// then told to the machine, if it is the caller's to take. A write that has run out of time is not in the
// store: it has been withdrawn before its turn.
func perhaps(err error) bool { return err == nil || errors.Is(err, store.ErrUncertain) }

func (a *api) registerChanges(h huma.API) {
	huma.Register(h, operation(http.MethodPatch, "/devices/{id}", "change-device", "Rename a device, or say that it is verified"), a.changeDevice)
	huma.Register(h, operation(http.MethodDelete, "/devices/{id}", "delete-device", "Forget a device and its authorizations"), a.deleteDevice)
	huma.Register(h, operation(http.MethodGet, "/people", "list-people", "People who have signed in at least once"), a.listPeople)
	huma.Register(h, operation(http.MethodPatch, "/people/{id}", "change-person", "Shut a person out, or in again"), a.changePerson)
}

type deviceChange struct {
	ByID
	Body struct {
		Name     *string `json:"name,omitempty" minLength:"1" maxLength:"255"`
		Verified *bool   `json:"verified,omitempty"`
	}
}

type oneDevice struct{ Body deviceView }

func (a *api) changeDevice(ctx context.Context, q *deviceChange) (*oneDevice, error) {
	ctx, end := a.change(ctx)
	defer end()
	account := caller(ctx).Account
	d, err := a.store.Device(ctx, account, q.ID)
	if err != nil {
		return nil, a.apiError("look up a device", err)
	}
	if q.Body.Name != nil {
		if err = a.store.RenameDevice(ctx, account, q.ID, *q.Body.Name); err == nil {
			d.Name = *q.Body.Name
		}
	}
	if verified := q.Body.Verified; err == nil && verified != nil {
		err = a.store.SetVerified(ctx, account, q.ID, *verified)
		if err == nil || perhaps(err) && !*verified {
			d.Verified = *verified
		}
	}
	// Also after an error: one of the two may have been changed.
	a.driver.do(func(m *portal.Portal, now time.Time) { m.HandleDeviceChanged(d, now) })
	if err != nil {
		return nil, a.apiError("change a device", err)
	}
	return &oneDevice{viewDevice(&d, a.ownerNames(account))}, nil
}

func (a *api) deleteDevice(ctx context.Context, q *ByID) (*struct{}, error) {
	ctx, end := a.change(ctx)
	defer end()
	account := caller(ctx).Account
	if _, err := a.store.Device(ctx, account, q.ID); err != nil { // as with tokens
		return nil, a.apiError("look up a device", err)
	}
	_, _, err := a.store.DeleteDevice(ctx, account, q.ID)
	if perhaps(err) {
		a.driver.do(func(m *portal.Portal, now time.Time) { m.HandleDeviceDeleted(q.ID, now) })
	}
	return nil, a.apiError("delete a device", err)
}

// personView is a person.
type personView struct {
	ID       string              `json:"id"`
	Name     string              `json:"name"`
	Email    string              `json:"email,omitempty"`
	Provider string              `json:"provider" doc:"That of the last sign-in."`
	Claims   map[string][]string `json:"claims" nullable:"false" doc:"As name=value, by the provider that said so when the person last signed in with it. A session has the groups of the provider that it began with."`
	Disabled bool                `json:"disabled"`
	Created  time.Time           `json:"created"`
	Seen     time.Time           `json:"seen"`
}

func (a *api) listPeople(ctx context.Context, q *Paging) (*page[personView], error) {
	rows, err := a.store.People(ctx, caller(ctx).Account, q.After, q.Limit)
	if err != nil {
		return nil, a.apiError("list people", err)
	}
	views := make([]personView, len(rows))
	for i := range rows {
		views[i] = viewPerson(&rows[i])
	}
	return pageOf(views, len(rows) == q.Limit, last(rows, func(p *store.Person) string { return p.ID })), nil
}

func viewPerson(p *store.Person) personView {
	return personView{p.ID, p.Name, p.Email, p.Provider, p.Claims, p.Disabled, p.Created, p.Seen}
}

type personChange struct {
	ByID
	Body struct {
		Disabled bool `json:"disabled"`
	}
}

type onePerson struct{ Body personView }

// changePerson shuts a person out: the person cannot sign in, and the sessions there are end.
func (a *api) changePerson(ctx context.Context, q *personChange) (*onePerson, error) {
	ctx, end := a.change(ctx)
	defer end()
	account := caller(ctx).Account
	p, err := a.store.Person(ctx, account, q.ID)
	if err != nil {
		return nil, a.apiError("look up a person", err)
	}
	err = a.store.SetDisabled(ctx, account, q.ID, q.Body.Disabled)
	if err != nil && (!perhaps(err) || !q.Body.Disabled) {
		return nil, a.apiError("change a person", err)
	}
	if p.Disabled = q.Body.Disabled; p.Disabled {
		err = errors.Join(err, a.endSessions(ctx, account, q.ID))
	}
	a.driver.do(func(m *portal.Portal, now time.Time) { m.HandleActor(p.ID, actorOf(&p), !p.Disabled, now) })
	if err != nil {
		return nil, a.apiError("end sessions", err)
	}
	return &onePerson{viewPerson(&p)}, nil
}

func (a *api) endSessions(ctx context.Context, account, person string) error {
	return eachPage(func(after string) (string, int, error) {
		page, err := a.store.Tokens(ctx, account, store.TokenFilter{Kind: store.ClientToken, Subject: person, After: after})
		if err != nil {
			return "", 0, err
		}
		for i := range page {
			_, err := a.store.RevokeToken(ctx, account, page[i].ID, time.Now())
			if perhaps(err) {
				a.tokenGone(page[i].ID)
			}
			if err != nil {
				return "", 0, err
			}
		}
		return last(page, func(t *store.Token) string { return t.ID }), len(page), nil
	})
}
