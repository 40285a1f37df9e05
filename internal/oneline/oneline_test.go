package oneline

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	for _, test := range []struct{ text, clean, join string }{
		{"", "", ""},
		{"plain words", "plain words", "plain words"},
		{"  a  table\tof\r\ntwo lines \n", "a  table of  two lines", "a table of two lines"},
		{"red \x1b[31mletters\x1b[0m and a bell\a", "red [31mletters[0m and a bell", "red [31mletters[0m and a bell"},
		{"turned \u202eround\u2028and ended\u0085", "turned round and ended", "turned round and ended"},
		{"Ünïcode „stays“ \u00a0here", "Ünïcode „stays“  here", "Ünïcode „stays“ here"},
		{"broken \xff\xfe bytes", "broken \ufffd\ufffd bytes", "broken \ufffd\ufffd bytes"},
		{"\x00\x1b", "", ""},
	} {
		require.Equal(t, test.clean, Clean(test.text), "%q", test.text)
		require.Equal(t, test.join, Join(test.text), "%q", test.text)
	}
}
