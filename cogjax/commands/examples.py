"""Lines that `--help` shows: a command's own uses, as they are typed.

A line with a backslash at its end goes on in the next.
"""

_TRAIN = "cogjax train --config cogview/emoji:"

EXAMPLES = {
    "": (
        'cogjax generate "a red apple, 3D" "一只猫的线稿" --out images',
        "cogjax models",
        "cogjax finetune my-images --out mine",
        "cogjax serve",
    ),
    "generate": (
        'cogjax generate "a red apple, 3D" "一只猫的线稿" --out images',
        'cogjax generate "flat illustration of a tiger" --rerank 8 --num-images 2 \\\n'
        "    --out tigers",
        'cogjax generate "a red circle" --model runs/lm --guidance 3 --out circles',
        'cogjax generate "a red apple, 3D" --image in.png --mask hole.png --out edited',
    ),
    "caption": (
        "cogjax caption images/a-red-apple-3d-1.png",
        "cogjax caption a.png b.png --language zh --json captions.json",
        "cogjax caption a.png --model shapes-ernie --beams 8 --rerank",
    ),
    "ask": (
        'cogjax ask scene.png "how many squares are there?" --model shapes-ernie',
        'cogjax ask scene.png "图中有几个正方形？" --model shapes-ernie --beams 4',
    ),
    "score": (
        'cogjax score tiger.png "flat illustration of a tiger"',
        'cogjax score tiger.png "a tiger" "a tomato" "a cat, 3D"',
        'cogjax score tiger.png "a tiger" "a cat" --by clip --clip clip-icons',
    ),
    "models": ("cogjax models", "cogjax models runs", "cogjax models --json"),
    "info": ("cogjax info emoji", "cogjax info runs/lm", "cogjax info emoji --json"),
    "data": (
        "cogjax data folder my-images --out data/mine --size 64",
        "cogjax data shapes --out data/shapes",
        "cogjax data show data/mine",
    ),
    "data emoji": (
        "cogjax data emoji --out data/emoji --size 72 --no-flags",
        "cogjax data emoji --out data/food --styles noto,twemoji --groups food-drink",
    ),
    "data icons": (
        "cogjax data icons --out data/icons",
        "cogjax data icons --out data/icons --size 64 --npm-dir archives",
    ),
    "data shapes": (
        "cogjax data shapes --out data/shapes",
        "cogjax data shapes --out data/easy --n 80000 --easy --questions",
        "cogjax data shapes --out data/wide --easy --aspect 2:1",
    ),
    "data folder": (
        "cogjax data folder my-images --out data/mine --size 64",
        "cogjax data folder images.tar --out data/mine --fit bucket",
        "cogjax data folder images.csv --out data/mine --caption-field title",
    ),
    "data tfds": (
        "cogjax data tfds oxford_flowers102 --out data/flowers --size 64",
        "cogjax data tfds my_set:1.0.0 --data-dir ~/sets --out data/mine",
    ),
    "data questions": (
        "cogjax data questions --from questions.jsonl --out data/questions",
        "cogjax data questions --from questions.jsonl --out data/questions --size 64",
    ),
    "data filter": (
        "cogjax data filter data/mine --out data/kept --min-words 2 --aspect 0.5 2",
        "cogjax data filter data/mine --out data/kept --model clip-icons \\\n"
        "    --max-score 0.8",
    ),
    "data pairs": (
        "cogjax data pairs data/icons-codes --out data/pairs",
        "cogjax data pairs data/icons-codes --out data/few --n 1000 --seed 1",
    ),
    "data show": (
        "cogjax data show data/mine",
        "cogjax data show data/mine --split val --n 16 --out val.png",
    ),
    "data overlap": (
        "cogjax data overlap data/mine data/mine",
        "cogjax data overlap data/mine data/other --sheet near.png",
        "cogjax data overlap data/mine data/mine --threshold 8 --out data/clean",
    ),
    "tokenizer": (
        "cogjax tokenizer train --data data/mine --vocab-size 2000 --out text.model",
        "cogjax tokenizer compare emoji runs/vq --data data/emoji --out compared",
    ),
    "tokenizer train": (
        "cogjax tokenizer train --data data/mine --vocab-size 2000 --out text.model",
        "cogjax tokenizer train --text captions.txt --vocab-size 8000 --lower-case \\\n"
        "    --out text.model",
    ),
    "tokenizer compare": (
        "cogjax tokenizer compare emoji runs/vq --data data/emoji --out compared",
        "cogjax tokenizer compare shapes --data data/shapes --n 200 --out compared",
    ),
    "encode": (
        "cogjax encode --data data/mine --tokenizer runs/vq --out data/codes",
        "cogjax encode --data data/mine --tokenizer emoji --out data/codes \\\n"
        "    --process 0/2",
    ),
    "encode-text": (
        "cogjax encode-text --data data/mine --model runs/t5 --out data/vectors",
        "cogjax encode-text --data data/mine --model t5-small --out data/vectors \\\n"
        "    --dtype bfloat16",
    ),
    "train": (
        f"{_TRAIN}tokenizer --workdir runs/vq \\\n    --config.data.path=data/mine",
        f"{_TRAIN}transformer --workdir runs/lm",
        f"{_TRAIN}transformer --dry-run",
        "cogjax config cogview/emoji:transformer",
    ),
    "config": (
        "cogjax config",
        "cogjax config cogview/icons:transformer",
        "cogjax config lm",
        "cogjax config dalle/icons:tokenizer --config.optim.lr=3e-4 --json",
    ),
    "export": (
        "cogjax export runs/lm --out my-model",
        "cogjax export emoji --format safetensors --out released",
        "cogjax export runs/tuned --format adapter --out my-adapter",
    ),
    "report": (
        "cogjax report runs/lm",
        "cogjax report runs/vq --codebook",
    ),
    "verify": (
        "cogjax verify runs/lm",
        "cogjax verify data/mine",
        "cogjax verify my-model --json",
    ),
    "finetune": (
        "cogjax finetune my-images --out mine --dry-run",
        "cogjax finetune my-images --out mine",
        'cogjax finetune my-images --out mine --lora 8 --prompt "my cat, 3D"',
    ),
    "evaluate": (
        "cogjax evaluate shapes --suite shapes --out eval/shapes --best-of 16",
        "cogjax evaluate emoji --data data/emoji --n 200 --json emoji.json",
        "cogjax evaluate clip-icons --suite retrieval --data data/icons --n 200",
        "cogjax evaluate oracle",
    ),
    "evaluate human": (
        "cogjax evaluate human --form votes --models shapes shapes-dalle --out page",
        "cogjax evaluate human --form categories --models emoji runs/lm --out page",
        "cogjax evaluate human --analyse page answers --out report",
    ),
    "metrics": (
        "cogjax metrics images photographs",
        "cogjax metrics images photographs --size 64 --json metrics.json",
        "cogjax metrics images --clip clip-icons",
    ),
    "import": (
        "cogjax import dalle-mini --out models/mini",
        "cogjax import vqgan.ckpt vqgan.yaml --out models/vqgan --family vqgan",
    ),
    "parity": (
        "cogjax parity models/mini --case case.npz --component transformer",
        "cogjax parity emoji --case case.npz --component tokenizer --record",
    ),
    "plan": (
        "cogjax plan --config cogview/paper --topology v5p:4x4x8 --estimate",
        "cogjax plan --config cogview/paper --topology v5e:4x4 --sampling 32",
    ),
    "bench": (
        "cogjax bench train --size nano",
        "cogjax bench decode --size emoji --batch 8 --json decode.json",
    ),
    "attention-map": (
        "cogjax attention-map --kinds row,conv --out map.png",
        "cogjax attention-map --grid 16x16 --text 8 --kinds full,row --matrix",
        'cogjax attention-map apple.png "a red apple, 3D" --weights',
        'cogjax attention-map apple.png "a red apple, 3D" --weights --query 70',
    ),
    "serve": (
        "cogjax serve",
        "cogjax serve --model emoji --model clip-icons --port 8080",
        "cogjax serve --model runs/lm --queue 8 --max-images 4",
    ),
}
