package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// FlowKey is what tells flows apart: the same flow reported again has the same key.
type FlowKey struct {
	// Initiator is the device that opened the flow, Role the side that reports it.
	Initiator, Role string
	Start           time.Time
	Protocol        string
	Src, Dst        netip.AddrPort
	Resource        string
}

// FlowLog is one record about a flow.
type FlowLog struct {
	FlowKey
	// Closed is false for the record of a flow's beginning; the one of its end replaces it, and
	// nothing replaces that.
	Closed bool
	// Body is the whole record, in the caller's form; 8 KiB at most.
	Body []byte
}

// StoredFlowLog is a record of the ring.
type StoredFlowLog struct {
	// Seq grows with each new flow of the database.
	Seq                 int64
	Initiator, Resource string
	Start               time.Time
	Closed              bool
	Body                []byte
}

const (
	// MaxFlowBody bounds the body of a record: 16 paths of about 200 bytes, and as much again.
	MaxFlowBody = 8 << 10
	// MaxFlowLogs bounds the records of one call, as the protocol bounds those of one request.
	MaxFlowLogs = 10_000
)

// flowChunk is how many records one write stores: more would make the writes behind it wait. 64 take
// about 3 ms.
const flowChunk = 64

// PutFlowLogs stores records, at most MaxFlowLogs in one call, and then deletes the account's oldest
// ones until it is within its limits; dropped says how many that were. A record of a flow that is
// known updates it once, from open to closed; else it changes nothing. After an error some of the
// records may be stored; giving all of them again is harmless.
func (s *Store) PutFlowLogs(ctx context.Context, account string, logs []FlowLog) (dropped int64, err error) {
	if err := checkFlowLogs(account, logs); err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(logs, flowChunk) {
		n, err := write(ctx, s, func(t *tx) (int64, error) { return s.putFlowLogs(t, account, chunk) })
		if err != nil {
			return dropped, err
		}
		dropped += n
	}
	return dropped, nil
}

func (s *Store) putFlowLogs(t *tx, account string, logs []FlowLog) (dropped int64, err error) {
	for i := range logs {
		l := &logs[i]
		body := l.Body
		if body == nil {
			body = []byte{} // nil would be NULL
		}
		err := t.exec(`INSERT INTO flow_logs (account, key, initiator, resource, start, closed, body) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, key) DO UPDATE SET closed = 1, body = excluded.body WHERE NOT closed AND excluded.closed`,
			account, l.hash(), l.Initiator, l.Resource, ms(l.Start), l.Closed, body)
		if err != nil {
			return 0, err
		}
	}
	return s.trimFlowLogs(t, account)
}

// FlowLogFilter picks flow logs; empty fields pick all.
type FlowLogFilter struct {
	Initiator, Resource string
	// From and Until bound the start of flows: from From, before Until.
	From, Until time.Time
	// After and Limit are for going through many: in the order of Seq, after this one, MaxPage at
	// most.
	After int64
	Limit int
}

// FlowLogs returns the flow logs of an account that f picks.
func (s *Store) FlowLogs(ctx context.Context, account string, f FlowLogFilter) ([]StoredFlowLog, error) {
	return read(ctx, s, `SELECT seq, initiator, resource, start, closed, body FROM flow_logs
		WHERE account = ?1 AND seq > ?2 AND (?3 = '' OR initiator = ?3) AND (?4 = '' OR resource = ?4)
		AND start >= ?5 AND (?6 = 0 OR start < ?6) ORDER BY seq LIMIT ?7`,
		func(r *sql.Rows) (l StoredFlowLog, err error) {
			var start int64
			err = r.Scan(&l.Seq, &l.Initiator, &l.Resource, &start, &l.Closed, &l.Body)
			l.Start = at(start)
			return l, err
		}, account, f.After, f.Initiator, f.Resource, ms(f.From), ms(f.Until), clamp(f.Limit))
}

// trimFlowLogs deletes the oldest records until the account is within its limits.
func (s *Store) trimFlowLogs(t *tx, account string) (dropped int64, err error) {
	for {
		rows, err := t.count(account, "flow_logs")
		if err != nil {
			return 0, err
		}
		bytes, err := t.count(account, "flow_log_bytes")
		if err != nil {
			return 0, err
		}
		n := rows - s.limits.FlowLogs
		if bytes > s.limits.FlowLogBytes {
			n = max(n, 1+(bytes-s.limits.FlowLogBytes)/MaxFlowBody)
		}
		if n <= 0 {
			break
		}
		n, err = t.change(`DELETE FROM flow_logs WHERE seq IN
			(SELECT seq FROM flow_logs WHERE account = ? ORDER BY seq LIMIT ?)`, account, n)
		if err != nil {
			return 0, err
		}
		dropped += n
	}
	if dropped == 0 {
		return 0, nil
	}
	return dropped, t.exec(`INSERT INTO counts VALUES (?, 'flow_logs_dropped', ?)
		ON CONFLICT DO UPDATE SET n = n + excluded.n`, account, dropped)
}

// count is a row of the table of counts.
func (t *tx) count(account, subject string) (n int64, err error) {
	err = t.row("SELECT n FROM counts WHERE account = ? AND subject = ?", account, subject).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// hash is the key as the database has it: SHA-256 over all fields, each with its length before it.
func (k *FlowKey) hash() []byte {
	var b []byte
	for _, field := range []string{k.Initiator, k.Role, k.Protocol, k.Src.String(), k.Dst.String(), k.Resource} {
		b = binary.AppendUvarint(b, uint64(len(field)))
		b = append(b, field...)
	}
	b = binary.AppendVarint(b, k.Start.UnixMicro())
	sum := sha256.Sum256(b)
	return sum[:]
}

func checkFlowLogs(account string, logs []FlowLog) error {
	if len(logs) > MaxFlowLogs {
		return fmt.Errorf("%w: %d flow logs at once, %d are allowed", ErrInvalid, len(logs), MaxFlowLogs)
	}
	for i := range logs {
		l := &logs[i]
		if len(l.Body) > MaxFlowBody {
			return fmt.Errorf("%w: flow log of %d bytes, %d are allowed", ErrInvalid, len(l.Body), MaxFlowBody)
		}
		if err := first(id("initiator", l.Initiator), id("role", l.Role), id("protocol", l.Protocol), id("resource", l.Resource)); err != nil {
			return err
		}
	}
	return id("account", account)
}
