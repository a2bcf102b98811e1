{{/* Names */}}
{{- define "infoplane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for the component's name within the 63 of a DNS label. */}}
{{- define "infoplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "infoplane.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "infoplane.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "infoplane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "infoplane.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "infoplane.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Labels. The selector's are the subset that never changes: Kubernetes forbids to change a selector. */}}
{{- define "infoplane.selectorLabels" -}}
app.kubernetes.io/name: {{ include "infoplane.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "infoplane.labels" -}}
{{ include "infoplane.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: infoplane
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The settings file, after the checks that a schema cannot express. */}}
{{- define "infoplane.config" -}}
{{- $kafka := .Values.config.kafka | default dict -}}
{{- $_ := required "config.kafka.bootstrap_servers is empty: name the brokers as host:port[,host:port...]" $kafka.bootstrap_servers -}}
{{- if .Values.config.policy -}}
{{- fail "config.policy is set by the chart: use controller.policy and controller.signing.existingSecret" -}}
{{- end -}}
{{- if not (int (dig "port" 0 .Values.config.exporter)) -}}
{{- fail "config.exporter.port is 0: probes and the Service need a fixed port" -}}
{{- end -}}
{{- if not (int (dig "metrics_port" 0 .Values.config.pipeline)) -}}
{{- fail "config.pipeline.metrics_port is 0: the probes of collector and controller need it" -}}
{{- end -}}
{{- $enforces := eq .Values.controller.policy.mode "enforce" -}}
{{- if and $enforces (not .Values.controller.policy.rules) -}}
{{- fail "controller.policy.mode is enforce, but controller.policy.rules is empty: there is nothing to enforce" -}}
{{- end -}}
{{- if and $enforces (not .Values.controller.signing.existingSecret) -}}
{{- fail "controller.policy.mode is enforce, but controller.signing.existingSecret is empty: commands must be signed" -}}
{{- end -}}
{{- toYaml .Values.config -}}
{{- end -}}

{{/* What all three Deployments have in common. */}}
{{- define "infoplane.podSettings" -}}
serviceAccountName: {{ include "infoplane.serviceAccountName" . }}
automountServiceAccountToken: false
# A Service named infoplane-... would put variables that begin like our settings into every pod.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int .Values.runAsUser }}
  runAsGroup: {{ int .Values.runAsUser }}
  fsGroup: {{ int .Values.runAsUser }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "infoplane.podAnnotations" -}}
# Pods start anew when their settings change: nothing reads the file twice.
checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "infoplane.containerSettings" -}}
image: {{ include "infoplane.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# The root file system is read-only, so whatever writes scratch files must find /tmp.
workingDir: /tmp
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "infoplane.env" -}}
- name: INFOPLANE_CONFIG
  value: /etc/infoplane/infoplane.yaml
- name: HOME
  value: /tmp
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "infoplane.mounts" -}}
- name: config
  mountPath: /etc/infoplane
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "infoplane.volumes" -}}
- name: config
  configMap:
    name: {{ include "infoplane.fullname" . }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- end -}}

{{/* Creates topics, and so also waits for the broker: a stage that starts before its topics looks for them rarely. */}}
{{- define "infoplane.initContainers" -}}
{{- if .root.Values.topics.create -}}
initContainers:
  - name: topics
    {{- include "infoplane.containerSettings" .root | nindent 4 }}
    args: [topics, create, --replication, {{ int .root.Values.topics.replication | quote }}]
    env:
      {{- include "infoplane.env" .root | nindent 6 }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    volumeMounts:
      {{- include "infoplane.mounts" .root | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Start-up covers the import of torch on a cold node. */}}
{{- define "infoplane.probes" -}}
startupProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end -}}
