package load

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/supervisord-go/supervisord/bench/message"
)

// A messageWire speaks in messages. One without content, that nobody has asked
// for, asks the client to move to another connection; until then each of its
// questions is answered.
type messageWire struct {
	link
	open     func(net.Conn) (message.Conn, error)
	messages message.Conn
}

func (w *messageWire) connected() bool { return w.quiet() }

func (w *messageWire) connect(o *Options, by time.Time) (err error) {
	if err := w.dial(o, by); err != nil {
		return err
	}
	if w.messages, err = w.open(w.Conn); err != nil {
		w.hangUp()
		return messageFailure(err)
	}
	return nil
}

func (w *messageWire) exchange(q question, by time.Time) (answer, error) {
	w.SetDeadline(by)
	if err := w.messages.Send(append([]byte(q.method+" "+q.target+"\n"), q.body...)); err != nil {
		return answer{}, lose(early(err), err)
	}
	move := false
	for {
		m, err := w.messages.Receive()
		if err != nil {
			return answer{}, messageFailure(err)
		}
		if len(m) > 0 {
			if move {
				w.hangUp()
			}
			return answer{body: m}, nil
		}
		move = true
	}
}

func (w *messageWire) hangUp() {
	if w.messages != nil {
		w.messages.Close()
		w.messages = nil
	}
	w.link.hangUp()
}

func messageFailure(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return lose(CutShort, err)
	case errors.Is(err, message.ErrMalformed):
		return lose(Malformed, err)
	}
	return lose(early(err), err)
}
