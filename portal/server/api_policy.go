package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
)

// problemView is one thing that is wrong with a policy file.
type problemView struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	What   string `json:"what"`
	Fix    string `json:"fix"`
}

// changeView is one thing that a policy file would change.
type changeView struct {
	Action string   `json:"action" enum:"removed,updated,added"`
	Kind   string   `json:"kind"`
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	For    []string `json:"for" nullable:"false" doc:"The groups whose members can notice it."`
	Text   string   `json:"text"`
}

type policyText struct {
	RawBody []byte `contentType:"application/yaml" doc:"A policy file, in YAML or JSON."`
}

type checked struct {
	Body struct {
		Good     bool          `json:"good"`
		Problems []problemView `json:"problems" nullable:"false"`
	}
}

type planned struct {
	Body struct {
		Good     bool          `json:"good"`
		Problems []problemView `json:"problems" nullable:"false"`
		Changes  []changeView  `json:"changes" nullable:"false" doc:"What would change in this account."`
	}
}

const (
	// policyName stands for the file in what is said about it.
	policyName = "policy"
	// maxPolicyBody and maxPolicyMarks bound a policy file in a request, so that reading it takes 80 MiB
	// at most. Those for the file of the portal itself are larger.
	maxPolicyBody  = 1 << 20
	maxPolicyMarks = 1 << 17
	// maxParsing bounds the policy files that are read at a time, over the API.
	maxParsing = 1
)

func (a *api) registerPolicy(h huma.API) {
	check := operation(http.MethodPost, "/policy/check", "check-policy", "Say what is wrong with a policy file")
	plan := operation(http.MethodPost, "/policy/plan", "plan-policy", "Say what a policy file would change for whom in this account, or about relays")
	for _, o := range []*huma.Operation{&check, &plan} {
		o.MaxBodyBytes = maxPolicyBody
		o.Errors = append(o.Errors, http.StatusRequestEntityTooLarge)
		o.Metadata[scopeKey] = ReadScope // they change nothing
	}
	huma.Register(h, check, a.checkPolicy)
	huma.Register(h, plan, a.planPolicy)
}

func (a *api) checkPolicy(_ context.Context, q *policyText) (*checked, error) {
	_, problems, err := a.parsePolicy(q.RawBody)
	if err != nil {
		return nil, err
	}
	c := &checked{}
	c.Body.Problems, c.Body.Good = problems, len(problems) == 0
	return c, nil
}

func (a *api) planPolicy(ctx context.Context, q *policyText) (*planned, error) {
	file, problems, err := a.parsePolicy(q.RawBody)
	if err != nil {
		return nil, err
	}
	p := &planned{}
	p.Body.Problems, p.Body.Good, p.Body.Changes = problems, len(problems) == 0, []changeView{}
	if file == nil {
		return p, nil
	}
	own := caller(ctx).Account
	for _, c := range config.Diff(a.policy.file.Load(), file) {
		if c.Account != own && (c.Account != "" || own != store.Portal) {
			continue // of others, or about relays
		}
		v := changeView{Action: c.Action.String(), Kind: c.Kind.String(), ID: c.ID, Name: c.Name, For: c.For, Text: c.String()}
		if v.For == nil {
			v.For = []string{}
		}
		p.Body.Changes = append(p.Body.Changes, v)
	}
	return p, nil
}

// parsePolicy reads a policy file, unless another is being read for somebody else.
func (a *api) parsePolicy(text []byte) (*config.File, []problemView, error) {
	select {
	case a.parsing <- struct{}{}:
		defer func() { <-a.parsing }()
	default:
		return nil, nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("another policy file is being read; try again"),
			http.Header{"Retry-After": {"1"}})
	}
	file, err := config.ParseWithin(policyName, text, maxPolicyMarks)
	views := []problemView{}
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			views = append(views, problemView{p.Line, p.Column, p.What, p.Fix})
		}
		return nil, views, nil
	}
	return file, views, err
}
