package credentials

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A User is one line of the API server's token file, and one kubeconfig.
type User struct {
	File   string // DIR/File.kubeconfig
	Name   string
	Groups []string
	Token  string
}

// heraldAccount is the name under which deploy/'s RBAC rules know a part of
// Herald, so that the lab's Herald may do what an installed one may, no more.
func heraldAccount(part string) User {
	return User{
		File:   part,
		Name:   "system:serviceaccount:herald-system:herald-" + part,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:herald-system"},
	}
}

// labUsers returns everyone who may log in, without tokens.
func labUsers() []User {
	return []User{
		{File: "admin", Name: "admin", Groups: []string{"system:masters"}},
		{File: "kcm", Name: "system:kube-controller-manager", Groups: []string{"system:masters"}},
		{File: "proxy", Name: "system:kube-proxy", Groups: []string{"system:node-proxier"}},
		heraldAccount("controller"),
		heraldAccount("speaker"),
	}
}

// tokenLine is the user as kube-apiserver's --token-auth-file has it:
// token, name, uid, "groups".
func (u User) tokenLine() string {
	return fmt.Sprintf("%s,%s,%s,%q\n", u.Token, u.Name, u.File, strings.Join(u.Groups, ","))
}

// kubeconfig is the user's, for the server at url.
func (u User) kubeconfig(url string, ca []byte) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: %[3]s, user: {token: %[4]s}}]
contexts: [{name: lab, context: {cluster: lab, user: %[3]s}}]
`, url, base64.StdEncoding.EncodeToString(ca), u.File, u.Token)
}

// Enrol writes a kubeconfig for each user, for the server at url, into dir,
// and the file of their tokens beside the certificates in pki. Tokens that are
// already there stay. The first user returned is the admin.
func Enrol(dir, pki, url string) ([]User, error) {
	ca, err := os.ReadFile(filepath.Join(pki, CACert))
	if err != nil {
		return nil, err
	}
	tokens := filepath.Join(pki, Tokens)
	known, err := readTokens(tokens)
	if err != nil {
		return nil, err
	}
	users := labUsers()
	var file bytes.Buffer
	for i := range users {
		u := &users[i]
		if u.Token = known[u.File]; u.Token == "" {
			u.Token = rand.Text()
		}
		file.WriteString(u.tokenLine())
		path := filepath.Join(dir, u.File+".kubeconfig")
		if err := os.WriteFile(path, []byte(u.kubeconfig(url, ca)), 0o600); err != nil {
			return nil, err
		}
	}
	return users, os.WriteFile(tokens, file.Bytes(), 0o600)
}

// readTokens returns the tokens of a file that tokenLine wrote, by uid.
func readTokens(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	tokens := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(line, ","); len(fields) >= 3 {
			tokens[fields[2]] = fields[0]
		}
	}
	return tokens, nil
}
