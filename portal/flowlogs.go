package portal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	// MaxIngestBody and MaxIngestRecords bound one upload, as deployed portals do.
	MaxIngestBody    = 10 << 20
	MaxIngestRecords = 10_000
	// maxOuters bounds the paths of one flow; devices split it before there are more.
	maxOuters = 16
	// maxReported bounds the records whose flaws are described in an answer.
	maxReported = 100
)

// IngestPath is where devices upload flow records.
const IngestPath = "/ingestion/flow_logs"

// Ingest decides which flow records are accepted. Its methods may be called from any goroutine.
type Ingest struct {
	// Secret is that of Settings.
	Secret [32]byte
}

// Upload is what becomes of one upload: Logs of Account are to be stored, and when that is done
// Status, ContentType and Body are the answer.
type Upload struct {
	Account     string
	Logs        []store.FlowLog
	Status      int
	ContentType string
	Body        []byte
}

// Accept looks at the body of an upload whose Authorization header is given. Valid records are to be
// stored even if others are not. Everything is attributed by the token alone.
func (g Ingest) Accept(authorization string, body []byte, now time.Time) Upload {
	claims, err := g.claims(authorization, now)
	if err != nil {
		return refusal(http.StatusUnauthorized, err.Error(), nil)
	}
	if len(body) > MaxIngestBody {
		return refusal(http.StatusBadRequest, fmt.Sprintf("the body is longer than %d bytes", MaxIngestBody), nil)
	}
	records, err := splitRecords(body)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error(), nil)
	}
	var logs []store.FlowLog
	flaws := map[string][]string{}
	for i, raw := range records {
		l, err := readRecord(raw, &claims)
		switch {
		case errors.Is(err, errForeign):
			return refusal(http.StatusUnprocessableEntity, "a record declares another policy_authorization_id", nil)
		case err == nil:
			logs = append(logs, l)
		case len(flaws) < maxReported:
			flaws[strconv.Itoa(i)] = []string{err.Error()}
		}
	}
	account := claims.AccountID.String()
	if len(logs) < len(records) {
		u := refusal(http.StatusUnprocessableEntity, "some records are invalid", flaws)
		u.Account, u.Logs = account, logs
		return u
	}
	return Upload{account, logs, http.StatusOK, "application/json", []byte(`{"data":{"status":"ok"}}`)}
}

// claims verifies a token. Which account's key has signed it is known from the token only.
func (g Ingest) claims(authorization string, now time.Time) (signal.IngestClaims, error) {
	const bearer = "Bearer "
	// maxHeader bounds a token: its claims take about 1.5 KiB, and names in it 255 bytes each.
	const maxHeader = 16 << 10
	if len(authorization) <= len(bearer) || len(authorization) > maxHeader || authorization[:len(bearer)] != bearer {
		return signal.IngestClaims{}, errors.New("the token is missing")
	}
	token := signal.NewSecret(authorization[len(bearer):])
	claimed, err := signal.ParseIngestToken(token)
	if err != nil {
		return signal.IngestClaims{}, errors.New("the token is invalid")
	}
	c, err := signal.VerifyIngestToken(token, IngestKey(g.Secret, claimed.AccountID.String()))
	if err != nil {
		return signal.IngestClaims{}, errors.New("the token is invalid")
	}
	switch {
	case now.Unix() >= c.ExpiresAt:
		return signal.IngestClaims{}, errors.New("the token has expired")
	case !c.UploadsEnabled:
		return signal.IngestClaims{}, errors.New("uploads are not enabled")
	}
	return c, nil
}

// splitRecords returns the records of a body without decoding them, so that one that is flawed
// harms no other. It stops at a record too many: a body may hold five million.
func splitRecords(body []byte) ([]json.RawMessage, error) {
	errShape := errors.New("the body is not an object with a list of flow_logs")
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errShape
	}
	var records []json.RawMessage
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil || key == "flow_logs" && found {
			return nil, errShape
		}
		if key != "flow_logs" {
			var other json.RawMessage
			if d.Decode(&other) != nil {
				return nil, errShape
			}
			continue
		}
		if found = true; !nextIs(d, '[') {
			return nil, errShape
		}
		for d.More() {
			var raw json.RawMessage
			if len(records) == MaxIngestRecords {
				return nil, fmt.Errorf("there are more than %d records", MaxIngestRecords)
			}
			if d.Decode(&raw) != nil {
				return nil, errShape
			}
			records = append(records, raw)
		}
		if !nextIs(d, ']') {
			return nil, errShape
		}
	}
	if !nextIs(d, '}') || !found {
		return nil, errShape
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errShape
	}
	return records, nil
}

func nextIs(d *json.Decoder, want json.Delim) bool {
	t, err := d.Token()
	return err == nil && t == want
}

// refusal is an answer for which nothing is stored.
func refusal(status int, detail string, flaws map[string][]string) Upload {
	problem := struct {
		Type   string              `json:"type"`
		Title  string              `json:"title"`
		Status int                 `json:"status"`
		Detail string              `json:"detail"`
		Errors map[string][]string `json:"validation_errors,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail, flaws}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(problem); err != nil {
		panic(err) // texts and a number always marshal
	}
	return Upload{Status: status, ContentType: signal.ProblemType, Body: bytes.TrimSpace(b.Bytes())}
}
