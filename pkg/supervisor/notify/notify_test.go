package notify

import (
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestStockClientSaysReady(t *testing.T) {
	dir, err := safepath.MakeDir(t.TempDir()+"/notify", 0711)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Message, 1)
	s, err := Listen(dir, "1", Options{GID: -1, Access: unit.NotifyAll, Receive: func(m Message) { got <- m }})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", s.Path())
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		t.Fatal(err)
	}
	if m := <-got; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.over
}
