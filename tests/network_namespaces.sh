#!/usr/bin/env bash
# docs/deploy.md from keygen to a trained model, with each organisation in a network namespace of its own. Needs root
# and ip netns. BIN is the folder with colonnade and python.
set -euo pipefail
cd "$(dirname "$0")/.."
bin="$(realpath --no-symlinks "${BIN:-.venv/bin}")"
folder="$(mktemp -d)"
names=(coordinator clinic laboratory)
tag="colonnade-$$"

pids=()
cleanup() {
    ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null || true
    for name in "${names[@]}" switch; do ip netns delete "$tag-$name" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap cleanup EXIT

echo "== three machines, 10.77.0.1 to 10.77.0.3, at one switch"
ip netns add "$tag-switch"
ip -n "$tag-switch" link add switch type bridge
ip -n "$tag-switch" link set switch up
for i in 0 1 2; do
    machine="$tag-${names[i]}"
    ip netns add "$machine"
    ip -n "$machine" link set lo up
    ip -n "$machine" link add eth0 type veth peer name "port$i" netns "$tag-switch"
    ip -n "$machine" address add "10.77.0.$((i + 1))/24" dev eth0
    ip -n "$machine" link set eth0 up
    ip -n "$tag-switch" link set "port$i" master switch up
done

echo "== keys, roster, settings, configurations"
mkdir "${names[@]/#/$folder/}"
for name in "${names[@]}"; do
    ip netns exec "$tag-$name" "$bin/colonnade" keygen "$name" --folder "$folder/$name"
done
"$bin/colonnade" roster assemble "$folder/roster.toml" --address 10.77.0.1:7443 \
    --coordinator "$folder/coordinator/coordinator.public.toml" --label "$folder/clinic/clinic.public.toml" \
    --feature "$folder/laboratory/laboratory.public.toml"
"$bin/colonnade" roster show "$folder/roster.toml"
printf '[training]\nepochs = %s\nbatch_size = 160\nl2 = 0.005\n' "${EPOCHS:-5}" >"$folder/settings.toml"
for name in "${names[@]}"; do
    cp "$folder/roster.toml" "$folder/settings.toml" "$folder/$name/"
    printf 'key = "%s.key.toml"\nroster = "roster.toml"\nsettings = "settings.toml"\n' "$name" \
        >"$folder/$name/$name.toml"
done
for name in clinic laboratory; do
    "$bin/python" -c "from scenarios.catalog.bundled import breast_cancer as b; b(part='$name').to_csv('$folder/$name/$name.csv', index=False)"
    printf '[data]\ncsv = "%s.csv"\nid = "patient"\n' "$name" >>"$folder/$name/$name.toml"
done
echo 'label = "malignant"' >>"$folder/clinic/clinic.toml"

echo "== run"
start() {
    ip netns exec "$tag-$1" "$bin/colonnade" "$2" "$folder/$1/$1.toml" &
    pids+=($!)
}
start coordinator coordinator
start clinic party
start laboratory party
if [[ -n "${DROP_SECONDS:-}" ]]; then
    sleep "${DROP_AFTER:-8}"
    echo "== the laboratory's cable is out for $DROP_SECONDS s"
    ip -n "$tag-switch" link set port2 down
    sleep "$DROP_SECONDS"
    ip -n "$tag-switch" link set port2 up
fi
for pid in "${pids[@]}"; do wait "$pid"; done
pids=()

echo "== kept"
(cd "$folder" && find . -path '*/runs/*' -type f | sort)
"$bin/python" -c "
import glob, json
(path,) = glob.glob('$folder/clinic/runs/*/metrics.json')
print('AUC on the clinic\'s test rows:', round(json.load(open(path))['test']['auc'], 4))"
