"""The text-to-image pipelines of diffusers: how each is called, by the name of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_PRIOR_TOO = ("guidance_scale", "prior_guidance_scale")
_PRIOR_STEPS = ("num_inference_steps", "prior_num_inference_steps")
_CLIP = 77
NATIVE = -1  # in `side`
ASKED_LENGTH = -1  # in `tokens`: the call's `max_sequence_length`


@dataclass(frozen=True)
class PipelineFacts:
    """How a pipeline of one class is asked for images of prompts; the defaults are those of most classes.

    refusal: why it cannot be compared ("makes video"); empty where it can.
    guidance: the arguments that a guidance scale goes to; empty where nothing guides.
    default: what the first of them is unasked; None: not one number, or not known.
    off: at this scale or below there is no guidance. distilled: the scale is an input of the network, which some
        checkpoints do not have.
    negative: whether it takes a negative prompt. negative_scale: the argument that must be above `off` for it to count
        (empty: the first of `guidance`). plain_negative: what stands for no negative prompt where guidance needs one.
    steps: the arguments that a number of steps goes to.
    fixed: arguments of every call; those that would rewrite the prompt, or resize the image, are off here.
    multiple: sides are multiples of this, whatever the checkpoint; 0: its networks decide.
    side: the side in pixels of its square images, whatever is asked; -1: the one that its checkpoint makes unasked.
    negative_alone: each request has a call of its own where there is a negative prompt.
    alone: each request has a call of its own: lists of prompts or of seeds are refused, or share one seed.
    batch_matters: whether an image depends on the other prompts of its batch.
    tensors: whether its "pt" output is what its PIL images are made of.
    safety: whether it can have a safety checker. scheduler: whether another scheduler can take the place of its own.
    tokens: the most tokens of each text encoder, where neither its tokenizer nor `max_sequence_length` tells; 0: no
        limit to count by.
    chat: how a text encoder that is a language model gets a prompt, of which all words count as tokens: as a
        message of a conversation ("text", or "parts"), or behind the pipeline's own words ("prefix").
    dtypes: those that it runs in, where it does not in all of them.
    device_noise: whether it draws noise on the device alone; others draw the same noise for any device.
    packages: what it needs beside diffusers' own requirements.
    notes: what the footer says of every column of this class.
    """

    refusal: str = ""
    guidance: tuple[str, ...] = ("guidance_scale",)
    default: float | None = None
    off: float = 1.0
    distilled: bool = False
    negative: bool = True
    negative_scale: str = ""
    plain_negative: str | None = None
    steps: tuple[str, ...] = ("num_inference_steps",)
    fixed: Mapping[str, object] = field(default_factory=dict)
    multiple: int = 0
    side: int = 0
    negative_alone: bool = False
    alone: bool = False
    batch_matters: bool = False
    tensors: bool = True
    safety: bool = False
    scheduler: bool = True
    tokens: Mapping[str, int] = field(default_factory=dict)
    chat: Literal["", "text", "parts", "prefix"] = ""
    dtypes: tuple[str, ...] = ()
    device_noise: bool = False
    packages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def scale_of_negative(self) -> str:
        """The argument that must be above `off` for a negative prompt to count, or nothing."""
        return self.negative_scale or (self.guidance[0] if self.guidance else "")


# Text cleaning and sizes that the benchmark chooses itself.
PLAIN = {"clean_caption": False, "use_resolution_binning": False}
_UNREAD = ("prompts are not rewritten",)
_OWN_NEGATIVE = ("it is guided away from a negative prompt of its own unless you give one",)
_INSTRUCTION = (
    "the pipeline's own instruction stands before each prompt (complex_human_instruction); "
    "HUB_ARGS='{\"complex_human_instruction\": null}' turns it off",
)
_CLEANS = ("prompts are repaired by ftfy (HTML entities, broken Unicode), which this pipeline cannot turn off",)


def _stable_diffusion(default: float = 7.5, **more: object) -> PipelineFacts:
    values: dict[str, object] = {"default": default, "multiple": 8, "safety": True} | more
    return PipelineFacts(**values)  # type: ignore[arg-type]


TEXT_TO_IMAGE: dict[str, PipelineFacts] = {
    # Stable Diffusion and its kin
    "StableDiffusionPipeline": _stable_diffusion(),
    "StableDiffusionPAGPipeline": _stable_diffusion(),
    "StableDiffusionSAGPipeline": _stable_diffusion(),
    "StableDiffusionPanoramaPipeline": _stable_diffusion(alone=True),
    "StableDiffusionModelEditingPipeline": _stable_diffusion(),
    "StableDiffusionParadigmsPipeline": _stable_diffusion(scheduler=False),
    "StableDiffusionPipelineSafe": _stable_diffusion(alone=True, tensors=False),
    "SemanticStableDiffusionPipeline": _stable_diffusion(alone=True),
    "AltDiffusionPipeline": _stable_diffusion(),
    "LatentConsistencyModelPipeline": _stable_diffusion(8.5, distilled=True, negative=False),
    "StableDiffusionXLPipeline": PipelineFacts(default=5.0, multiple=8),
    "StableDiffusionXLPAGPipeline": PipelineFacts(default=5.0, multiple=8),
    "KolorsPipeline": PipelineFacts(default=5.0, multiple=8),
    "KolorsPAGPipeline": PipelineFacts(default=5.0, multiple=8),
    "StableUnCLIPPipeline": PipelineFacts(
        guidance=_PRIOR_TOO, default=10.0, steps=_PRIOR_STEPS, multiple=8, tokens={"text_encoder": _CLIP}
    ),
    "StableDiffusion3Pipeline": PipelineFacts(default=7.0),
    "StableDiffusion3PAGPipeline": PipelineFacts(default=7.0),
    # transformers with text encoders of their own
    "PixArtAlphaPipeline": PipelineFacts(default=4.5, fixed=PLAIN, multiple=8),
    "PixArtSigmaPipeline": PipelineFacts(default=4.5, fixed=PLAIN, multiple=8),
    "PixArtSigmaPAGPipeline": PipelineFacts(default=4.5, fixed=PLAIN, multiple=8),
    "SanaPipeline": PipelineFacts(default=4.5, fixed=PLAIN, multiple=32, notes=_INSTRUCTION),
    "SanaPAGPipeline": PipelineFacts(default=4.5, fixed=PLAIN, multiple=32, notes=_INSTRUCTION),
    "SanaSprintPipeline": PipelineFacts(
        default=4.5, off=-1e9, distilled=True, negative=False, fixed=PLAIN, multiple=32, notes=_INSTRUCTION
    ),
    "HunyuanDiTPipeline": PipelineFacts(
        default=5.0, fixed=PLAIN, multiple=16, safety=True, tokens={"text_encoder": _CLIP, "text_encoder_2": 256}
    ),
    "HunyuanDiTPAGPipeline": PipelineFacts(
        default=5.0, fixed=PLAIN, multiple=16, safety=True, tokens={"text_encoder": _CLIP, "text_encoder_2": 256}
    ),
    "AuraFlowPipeline": PipelineFacts(default=3.5),
    "LuminaPipeline": PipelineFacts(default=4.0, fixed=PLAIN, multiple=16),
    "Lumina2Pipeline": PipelineFacts(default=4.0, multiple=16, chat="prefix"),
    "CogView3PlusPipeline": PipelineFacts(default=5.0, multiple=8),
    "CogView4Pipeline": PipelineFacts(default=5.0, multiple=16, batch_matters=True),
    "OmniGenPipeline": PipelineFacts(
        multiple=16, default=2.5, negative=False, batch_matters=True, tokens={"text_encoder": 0}, notes=_OWN_NEGATIVE
    ),
    "PRXPipeline": PipelineFacts(
        default=4.0,
        fixed={"skip_text_cleaning": True, "use_resolution_binning": False},
        alone=True,
        packages=("ftfy",),
        notes=_CLEANS,
    ),
    "PRXPixelPipeline": PipelineFacts(
        default=4.0,
        fixed=PLAIN,
        alone=True,
        tensors=False,
        packages=("ftfy",),
        notes=_CLEANS,
    ),
    # FLUX and its kin
    "FluxPipeline": PipelineFacts(default=3.5, off=1.0, distilled=True, negative_scale="true_cfg_scale"),
    "ChromaPipeline": PipelineFacts(default=5.0),
    "BriaPipeline": PipelineFacts(default=5.0),
    "BriaFiboPipeline": PipelineFacts(default=5.0, multiple=16),
    "BriaFibo2Pipeline": PipelineFacts(default=5.0, notes=_OWN_NEGATIVE, tokens={"text_encoder": 4096}),
    "OvisImagePipeline": PipelineFacts(default=5.0, plain_negative=""),
    "LongCatImagePipeline": PipelineFacts(
        default=4.5,
        plain_negative="",
        fixed={"enable_prompt_rewrite": False},
        notes=_UNREAD,
        tokens={"text_encoder": 512},
    ),
    "Flux2Pipeline": PipelineFacts(default=4.0, distilled=True, negative=False, chat="parts"),
    "Flux2KleinPipeline": PipelineFacts(default=4.0, negative=False, chat="text"),
    "Flux2KleinKVPipeline": PipelineFacts(guidance=(), negative=False, chat="text"),
    # transformers behind a language model
    "QwenImagePipeline": PipelineFacts(guidance=("true_cfg_scale",), default=4.0, plain_negative=" "),
    "QwenImage21Pipeline": PipelineFacts(
        guidance=("true_cfg_scale",),
        default=1.0,
        plain_negative=" ",
        multiple=32,
        batch_matters=True,
        tensors=False,  # of four channels
        tokens={"text_encoder": 0},
    ),
    "HunyuanImagePipeline": PipelineFacts(
        guidance=("distilled_guidance_scale",),
        default=3.25,
        distilled=True,
        tokens={"text_encoder": 1000, "text_encoder_2": 0},
    ),
    "ZImagePipeline": PipelineFacts(default=5.0, off=0.0, chat="text"),
    "ZImageOmniPipeline": PipelineFacts(default=5.0, off=0.0),
    "Krea2Pipeline": PipelineFacts(default=4.5, off=0.0),
    "NucleusMoEImagePipeline": PipelineFacts(default=4.0, tokens={"text_encoder": 1024}),
    "ErnieImagePipeline": PipelineFacts(
        default=4.0, fixed={"use_pe": False}, notes=_UNREAD, tokens={"text_encoder": 0, "pe": 0}
    ),
    "GlmImagePipeline": PipelineFacts(default=1.5, negative=False, alone=True, tokens={"text_encoder": 0}),
    "Ideogram4Pipeline": PipelineFacts(
        default=None, off=-1e9, negative=False, fixed={"prompt_upsampling": False}, tokens={"text_encoder": 0}
    ),
    "HiDreamImagePipeline": PipelineFacts(
        default=5.0, side=NATIVE, tokens={"text_encoder": ASKED_LENGTH, "text_encoder_2": ASKED_LENGTH}
    ),
    "Kandinsky5T2IPipeline": PipelineFacts(
        default=3.5,
        plain_negative="",
        side=1024,
        batch_matters=True,
        tokens={"text_encoder": 512, "text_encoder_2": _CLIP},
    ),
    "DreamLitePipeline": PipelineFacts(default=3.5, off=-1e9, alone=True, tokens={"text_encoder": 200}),
    "DreamLiteMobilePipeline": PipelineFacts(guidance=(), negative=False, alone=True, tokens={"text_encoder": 200}),
    # models of two or three stages; of pixels; of tokens
    "KandinskyCombinedPipeline": PipelineFacts(
        guidance=_PRIOR_TOO,
        default=4.0,
        steps=_PRIOR_STEPS,
        negative_alone=True,
        tensors=False,
        scheduler=False,
        tokens={"text_encoder": _CLIP},
    ),
    "KandinskyV22CombinedPipeline": PipelineFacts(
        guidance=_PRIOR_TOO, default=4.0, steps=_PRIOR_STEPS, negative_alone=True, tensors=False, scheduler=False
    ),
    "Kandinsky3Pipeline": PipelineFacts(default=3.0, tensors=False, tokens={"text_encoder": 128}),
    "StableCascadeCombinedPipeline": PipelineFacts(
        guidance=("prior_guidance_scale",),
        default=4.0,
        steps=("prior_num_inference_steps",),
        tensors=False,
        scheduler=False,
    ),
    "WuerstchenCombinedPipeline": PipelineFacts(
        multiple=128,
        guidance=("prior_guidance_scale",),
        default=4.0,
        steps=("prior_num_inference_steps",),
        alone=True,
        tensors=False,
        scheduler=False,
    ),
    "UnCLIPPipeline": PipelineFacts(
        guidance=("decoder_guidance_scale", "prior_guidance_scale"),
        default=8.0,
        negative=False,
        steps=("decoder_num_inference_steps", "prior_num_inference_steps"),
        tensors=False,
        scheduler=False,
        dtypes=("float32", "float16"),
    ),
    "IFPipeline": PipelineFacts(
        multiple=8,
        default=7.0,
        fixed={"clean_caption": False},
        tensors=False,
        safety=True,
        tokens={"text_encoder": _CLIP},
    ),
    "LDMTextToImagePipeline": PipelineFacts(default=1.0, negative=False, multiple=8, tokens={"bert": _CLIP}),
    "VersatileDiffusionTextToImagePipeline": PipelineFacts(alone=True, default=7.5, multiple=8, tensors=False),
    "UniDiffuserPipeline": PipelineFacts(default=8.0, negative=False, tensors=False, side=NATIVE),
    "AmusedPipeline": PipelineFacts(multiple=16, default=10.0, alone=True, tensors=False, scheduler=False),
    "VQDiffusionPipeline": PipelineFacts(
        default=5.0,
        negative=False,
        alone=True,
        tensors=False,
        scheduler=False,
        dtypes=("float32", "float16"),
        device_noise=True,
        tokens={"text_encoder": _CLIP},
        notes=("noise is drawn on the device: another device makes other images",),
    ),
}
