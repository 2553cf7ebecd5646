package words

import (
	"fmt"

	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// NobodyToKill says that there is no process of that role; "" if there is one.
func NobodyToKill(v *service.View, whom unit.Whom) string {
	for _, in := range v.State.Inst {
		main, next, old := in.Main.ID != 0, in.Next.ID != 0, len(in.Old) > 0
		switch {
		case whom == unit.KillMain && main, whom == unit.KillNext && next, whom == unit.KillOld && old:
			return ""
		case whom == unit.KillAll && (main || next || old):
			return ""
		}
	}
	if whom == unit.KillAll {
		return "it has no process"
	}
	return fmt.Sprintf("it has no %s process", whom)
}
