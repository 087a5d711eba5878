package uapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ReadRequest reads one request up to and including the empty line that ends it.
//
// It returns io.EOF when the stream ends before a request begins and io.ErrUnexpectedEOF when
// it ends inside one. A request that cannot be decoded gives a *SyntaxError; r then stands
// behind its empty line, so that the next request can be read. Other errors are the reader's.
//
// r's buffer must hold maxLine bytes; bufio.NewReader's does.
func ReadRequest(r *bufio.Reader) (Request, error) {
	d := decoder{r: r}
	op, err := d.next()
	if err != nil {
		return Request{}, d.recover(err)
	}
	var req Request
	switch string(op) {
	case "get=1":
		req.Op = Get
		err = d.get()
	case "set=1":
		req.Op = Set
		err = d.set(&req.Config)
	default:
		err = d.errorf("want get=1 or set=1, got %q", op)
	}
	if err != nil {
		return Request{}, d.recover(err)
	}
	return req, nil
}

// SyntaxError says what is wrong with a request. It never quotes a secret.
type SyntaxError struct {
	// Line counts from 1, the line with the operation.
	Line int
	// Reason says what was expected.
	Reason string
}

// Error returns the line number and the reason.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// maxLine bounds a line in bytes, without its end. The longest that means something is an
// endpoint with an IPv6 zone, about 90 bytes.
const maxLine = 256

// decoder reads the lines of one request.
type decoder struct {
	r    *bufio.Reader
	line int  // of the line read last, counting from 1
	open bool // inside a line that was too long
	done bool // the empty line was read
}

// next lends the next line without its end, until the following call. The empty line is the
// end of the request.
func (d *decoder) next() ([]byte, error) {
	b, err := d.r.ReadSlice('\n')
	if len(b) > 0 {
		d.line++
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		d.open = true
		return nil, d.errorf("line is longer than %d bytes", maxLine)
	case errors.Is(err, io.EOF) && d.line > 0:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	b = b[:len(b)-1]
	if len(b) > maxLine {
		return nil, d.errorf("line is longer than %d bytes", maxLine)
	}
	d.done = len(b) == 0
	return b, nil
}

// get reads what follows get=1: nothing.
func (d *decoder) get() error {
	b, err := d.next()
	if err == nil && !d.done {
		err = d.errorf("want an empty line after get=1, got %q", b)
	}
	return err
}

// set reads what follows set=1: settings of the device, then of peers.
func (d *decoder) set(c *Config) error {
	a := assembler{config: c}
	for {
		b, err := d.next()
		if err != nil {
			return err
		}
		if d.done {
			return nil
		}
		key, value, ok := bytes.Cut(b, []byte{'='})
		if !ok {
			return d.errorf("want key=value")
		}
		if err := a.assign(string(key), string(value)); err != nil {
			return d.errorf("%s", err)
		}
	}
}

// recover reads on to the end of a request that was refused, so that the client can finish
// writing it and read the answer.
func (d *decoder) recover(err error) error {
	var syntax *SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	for !d.done {
		b, err := d.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break // the next read reports it
		}
		d.done = !d.open && len(b) == 1
		d.open = err != nil
	}
	return syntax
}

func (d *decoder) errorf(format string, args ...any) error {
	return &SyntaxError{Line: d.line, Reason: fmt.Sprintf(format, args...)}
}
