package ipc

import (
	"bufio"
	"context"
	"iter"
	"net/http"
	"time"
)

type items = iter.Seq[any]

// mark is a line of a stream that says nothing but its type.
type mark struct {
	Type string `json:"type"`
}

const (
	typeHeartbeat = "heartbeat"
	typeEnd       = "end"
	typeError     = "error"
)

// stream writes what open yields, one JSON object a line. A line waits for the
// next as long as there is one at once; then all are flushed. When the source
// ends, a line says so. When the client is gone, does not read, or the server
// ends, the source's context is cancelled and the stream breaks off.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, route *Route, open func(context.Context) (items, error)) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	end := s.ending
	if route.endless {
		end = s.closing
	}
	defer context.AfterFunc(end, cancel)()
	opened, err := s.answer(w, func() (any, error) { return open(ctx) })
	if err != nil {
		return err
	}
	source := opened.(items)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lineWriter{w: bufio.NewWriterSize(w, 8<<10), rc: http.NewResponseController(w), patience: s.limits.write}
	pumped := s.pump(ctx, cancel, source)
	if err := out.copy(ctx, pumped, s.limits.heartbeat); err != nil {
		cancel()
		for range pumped { // until the source has ended
		}
		panic(http.ErrAbortHandler) // no proper end: the client sees that it was cut off
	}
	return nil
}

// pump has source yield into a channel, which is closed when it has ended. It
// does so soon after ctx is done. A source that panics breaks its own stream off
// and nothing else.
func (s *Server) pump(ctx context.Context, cancel context.CancelFunc, source items) <-chan any {
	c := make(chan any, 64)
	go func() {
		defer close(c)
		defer func() {
			if r := recover(); r != nil {
				cancel()
				s.fault(r)
			}
		}()
		for v := range source {
			select {
			case c <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// A lineWriter writes lines with a deadline for each write.
type lineWriter struct {
	w        *bufio.Writer
	rc       *http.ResponseController
	patience time.Duration // for each write
}

// copy writes until the source has ended.
func (l *lineWriter) copy(ctx context.Context, source <-chan any, beat time.Duration) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	if err := l.flush(); err != nil { // the client learns that it is served
		return err
	}
	for {
		select {
		case v, ok := <-source:
			if ok {
				if err := l.line(v); err != nil {
					return err
				}
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := l.line(mark{typeEnd}); err != nil {
				return err
			}
			return l.flush()
		case <-ticker.C:
			if err := l.line(mark{typeHeartbeat}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if len(source) == 0 {
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
}

func (l *lineWriter) line(v any) error {
	text, err := Encode(v)
	if err != nil {
		return err
	}
	if len(text) > l.w.Available() {
		if err := l.extend(); err != nil {
			return err
		}
	}
	_, err = l.w.Write(text)
	return err
}

func (l *lineWriter) flush() error {
	if err := l.extend(); err != nil {
		return err
	}
	if err := l.w.Flush(); err != nil {
		return err
	}
	return l.rc.Flush()
}

// extend gives the next write its time.
func (l *lineWriter) extend() error {
	return l.rc.SetWriteDeadline(time.Now().Add(l.patience))
}
