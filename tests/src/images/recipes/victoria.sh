#!/bin/sh
# VictoriaMetrics under the flags of Prometheus: it reads the same configuration.
for flag; do
    case "$flag" in
    --config.file=*) config=${flag#*=} ;;
    --storage.tsdb.path=*) data=${flag#*=} ;;
    esac
done
exec victoria-metrics -httpListenAddr=:9090 -storageDataPath="$data" -search.latencyOffset=1s \
    -promscrape.config="$config" -promscrape.config.strictParse=false
