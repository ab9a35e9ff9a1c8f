// Package credentials makes what the lab's API server and its clients trust
// each other by: certificates, keys, tokens and kubeconfigs.
package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of every certificate. The lab lives minutes; one that was kept to
// look around in lives days.
const lifetime = 30 * 24 * time.Hour

// Files of a directory of credentials, as kube-apiserver wants them.
const (
	CACert     = "ca.crt"
	caKey      = "ca.key"
	ServerCert = "apiserver.crt"
	ServerKey  = "apiserver.key"
	SAKey      = "sa.key" // signs service accounts' tokens
	SAPub      = "sa.pub"
	Tokens     = "tokens.csv"
)

// Certify fills dir with certificates and keys for a server that is known by
// these names and addresses. The authority and the service accounts' key outlive a restart,
// so that tokens stay good; the server's certificate is new each time, because
// its names may have changed.
func Certify(dir string, names []string, addrs []net.IP) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := makeServiceAccountKey(dir); err != nil {
		return fmt.Errorf("making the service accounts' key: %w", err)
	}
	ca, key, err := loadOrMakeCA(dir)
	if err != nil {
		return fmt.Errorf("making the certificate authority: %w", err)
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
		IPAddresses: addrs,
	}
	serverPrivate, err := newKey(filepath.Join(dir, ServerKey))
	if err != nil {
		return fmt.Errorf("making the API server's key: %w", err)
	}
	if err := sign(filepath.Join(dir, ServerCert), server, signer{ca, key}, serverPrivate); err != nil {
		return fmt.Errorf("making the API server's certificate: %w", err)
	}
	return nil
}

// A signer signs certificates.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// loadOrMakeCA returns the authority in dir and makes it if there is none.
func loadOrMakeCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPath, keyPath := filepath.Join(dir, CACert), filepath.Join(dir, caKey)
	if _, err := os.Stat(certPath); errors.Is(err, fs.ErrNotExist) {
		key, err := newKey(keyPath)
		if err != nil {
			return nil, nil, err
		}
		ca := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "herald-lab"},
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			IsCA:                  true,
			BasicConstraintsValid: true,
		}
		if err := sign(certPath, ca, signer{ca, key}, key); err != nil {
			return nil, nil, err
		}
	}
	certDER, err := readPEM(certPath)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := readPEM(keyPath)
	if err != nil {
		return nil, nil, err
	}
	cert, certErr := x509.ParseCertificate(certDER)
	key, keyErr := x509.ParseECPrivateKey(keyDER)
	return cert, key, errors.Join(certErr, keyErr)
}

// makeServiceAccountKey makes the pair that signs and verifies service account
// tokens, unless it is there.
func makeServiceAccountKey(dir string) error {
	pub := filepath.Join(dir, SAPub)
	if _, err := os.Stat(pub); err == nil {
		return nil
	}
	key, err := newKey(filepath.Join(dir, SAKey))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return writePEM(pub, "PUBLIC KEY", der, 0o644)
}

// newKey makes a private key and writes it to path.
func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

// sign completes template, has by sign it for key, and writes it to path.
func sign(path string, template *x509.Certificate, by signer, key *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	// An hour back: a guest kernel's clock may be a little behind its host's.
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(lifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der, 0o644)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading %s: no PEM block", path)
	}
	return block.Bytes, nil
}
