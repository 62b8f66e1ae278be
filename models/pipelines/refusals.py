"""The pipelines of diffusers that do not make images of text alone, each with what it does."""

from __future__ import annotations

_BY_REASON: dict[str, str] = {
    "makes video": """
        AllegroPipeline AnimateDiffControlNetPipeline AnimateDiffPAGPipeline AnimateDiffPipeline AnimateDiffSDXLPipeline
        AnimateDiffSparseControlNetPipeline AnimateDiffVideoToVideoControlNetPipeline AnimateDiffVideoToVideoPipeline
        AnyFlowFARPipeline AnyFlowPipeline ChronoEditPipeline CogVideoXFunControlPipeline CogVideoXImageToVideoPipeline
        CogVideoXPipeline CogVideoXVideoToVideoPipeline ConsisIDPipeline Cosmos2VideoToWorldPipeline
        Cosmos2_5_PredictBasePipeline Cosmos2_5_TransferPipeline Cosmos3OmniPipeline CosmosTextToWorldPipeline
        CosmosVideoToWorldPipeline EasyAnimateControlPipeline EasyAnimateInpaintPipeline EasyAnimatePipeline
        HeliosPipeline HeliosPyramidPipeline HunyuanSkyreelsImageToVideoPipeline HunyuanVideo15ImageToVideoPipeline
        HunyuanVideo15Pipeline HunyuanVideoFramepackPipeline HunyuanVideoImageToVideoPipeline HunyuanVideoPipeline
        I2VGenXLPipeline Kandinsky5I2VPipeline Kandinsky5T2VPipeline Kandinsky6TI2VAPipeline LTX2ConditionPipeline
        LTX2DFRPipeline LTX2DFRTemporalRefinePipeline LTX2HDRPipeline LTX2ImageToVideoPipeline LTX2InContextPipeline
        LTX2LatentUpsamplePipeline LTX2Pipeline LTX2VideoDiffusionDecodePipeline LTXConditionPipeline
        LTXI2VLongMultiPromptPipeline LTXImageToVideoPipeline LTXLatentUpsamplePipeline LTXPipeline LattePipeline
        LucyEditPipeline MochiPipeline MotifVideoImage2VideoPipeline MotifVideoPipeline PIAPipeline
        SanaImageToVideoPipeline SanaVideoPipeline SanaWMLTX2Refiner SanaWMPipeline
        SkyReelsV2DiffusionForcingImageToVideoPipeline SkyReelsV2DiffusionForcingPipeline
        SkyReelsV2DiffusionForcingVideoToVideoPipeline SkyReelsV2ImageToVideoPipeline SkyReelsV2Pipeline
        StableVideoDiffusionPipeline TextToVideoSDPipeline TextToVideoZeroPipeline TextToVideoZeroSDXLPipeline
        VideoToVideoSDPipeline WanAnimatePipeline WanImageToVideoPipeline WanPipeline WanVACEPipeline
        WanVideoToVideoPipeline""",
    "makes sound": """
        AceStepPipeline AudioDiffusionPipeline AudioLDM2Pipeline AudioLDMPipeline DanceDiffusionPipeline
        LongCatAudioDiTPipeline MusicLDMPipeline SpectrogramDiffusionPipeline StableAudio3AudioToAudioPipeline
        StableAudio3InpaintPipeline StableAudio3Pipeline StableAudioPipeline""",
    "makes text": "DiffusionGemmaPipeline LLaDA2Pipeline",
    "makes 3D objects": "ShapEImg2ImgPipeline ShapEPipeline",
    "makes proteins": "RFD4ProteinaPipeline",
    "changes an image": """
        AltDiffusionImg2ImgPipeline AmusedImg2ImgPipeline AmusedInpaintPipeline BriaFiboEditPipeline
        ChromaImg2ImgPipeline ChromaInpaintPipeline CycleDiffusionPipeline Flux2KleinInpaintPipeline FluxFillPipeline
        FluxImg2ImgPipeline FluxInpaintPipeline FluxKontextInpaintPipeline FluxKontextPipeline IFImg2ImgPipeline
        IFInpaintingPipeline JoyImageEditPipeline JoyImageEditPlusPipeline Kandinsky3Img2ImgPipeline
        Kandinsky5I2IPipeline KandinskyImg2ImgCombinedPipeline KandinskyImg2ImgPipeline KandinskyInpaintCombinedPipeline
        KandinskyInpaintPipeline KandinskyV22Img2ImgCombinedPipeline KandinskyV22Img2ImgPipeline
        KandinskyV22InpaintCombinedPipeline KandinskyV22InpaintPipeline KolorsImg2ImgPipeline
        LatentConsistencyModelImg2ImgPipeline LEditsPPPipelineStableDiffusion LEditsPPPipelineStableDiffusionXL
        LongCatImageEditPipeline OnnxStableDiffusionImg2ImgPipeline OnnxStableDiffusionInpaintPipeline
        OnnxStableDiffusionInpaintPipelineLegacy PaintByExamplePipeline QwenImageEditInpaintPipeline
        QwenImageEditPipeline QwenImageEditPlusPipeline QwenImageImg2ImgPipeline QwenImageInpaintPipeline
        RePaintPipeline SanaSprintImg2ImgPipeline StableDiffusion3Img2ImgPipeline StableDiffusion3InpaintPipeline
        StableDiffusion3PAGImg2ImgPipeline StableDiffusionDepth2ImgPipeline StableDiffusionDiffEditPipeline
        StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline StableDiffusionInpaintPipelineLegacy
        StableDiffusionInstructPix2PixPipeline StableDiffusionPAGImg2ImgPipeline StableDiffusionPAGInpaintPipeline
        StableDiffusionPix2PixZeroPipeline StableDiffusionXLImg2ImgPipeline StableDiffusionXLInpaintPipeline
        StableDiffusionXLInstructPix2PixPipeline StableDiffusionXLPAGImg2ImgPipeline
        StableDiffusionXLPAGInpaintPipeline StableUnCLIPImg2ImgPipeline ZImageImg2ImgPipeline ZImageInpaintPipeline""",
    "takes an image apart into layers": "QwenImageLayeredPipeline",
    "makes variations of an image": """
        BlipDiffusionPipeline StableDiffusionImageVariationPipeline UnCLIPImageVariationPipeline
        VersatileDiffusionDualGuidedPipeline VersatileDiffusionImageVariationPipeline VisualClozeGenerationPipeline
        VisualClozePipeline""",
    "enlarges or refines an image": """
        HunyuanImageRefinerPipeline IFImg2ImgSuperResolutionPipeline IFInpaintingSuperResolutionPipeline
        IFSuperResolutionPipeline Kandinsky6SRPipeline LDMSuperResolutionPipeline OnnxStableDiffusionUpscalePipeline
        StableDiffusionLatentUpscalePipeline StableDiffusionUpscalePipeline""",
    "measures an image": "MarigoldDepthPipeline MarigoldIntrinsicsPipeline MarigoldNormalsPipeline",
    "follows a control image": """
        BlipDiffusionControlNetPipeline CogView4ControlPipeline FluxControlImg2ImgPipeline FluxControlInpaintPipeline
        FluxControlNetImg2ImgPipeline FluxControlNetInpaintPipeline FluxControlNetPipeline FluxControlPipeline
        HunyuanDiTControlNetPipeline KandinskyV22ControlnetImg2ImgPipeline KandinskyV22ControlnetPipeline
        QwenImageControlNetInpaintPipeline QwenImageControlNetPipeline SanaControlNetPipeline
        StableDiffusion3ControlNetInpaintingPipeline StableDiffusion3ControlNetPipeline StableDiffusionAdapterPipeline
        StableDiffusionControlNetImg2ImgPipeline StableDiffusionControlNetInpaintPipeline
        StableDiffusionControlNetPAGInpaintPipeline StableDiffusionControlNetPAGPipeline
        StableDiffusionControlNetPipeline StableDiffusionControlNetXSPipeline StableDiffusionXLAdapterPipeline
        StableDiffusionXLControlNetImg2ImgPipeline StableDiffusionXLControlNetInpaintPipeline
        StableDiffusionXLControlNetPAGImg2ImgPipeline StableDiffusionXLControlNetPAGPipeline
        StableDiffusionXLControlNetPipeline StableDiffusionXLControlNetUnionImg2ImgPipeline
        StableDiffusionXLControlNetUnionInpaintPipeline StableDiffusionXLControlNetUnionPipeline
        StableDiffusionXLControlNetXSPipeline ZImageControlNetInpaintPipeline ZImageControlNetPipeline""",
    "makes depth maps beside its images, which diffusers cannot put into files": "StableDiffusionLDM3DPipeline",
    "places objects in boxes": "StableDiffusionGLIGENPipeline StableDiffusionGLIGENTextImagePipeline",
    "needs words of each prompt named (token_indices)": "StableDiffusionAttendAndExcitePipeline",
    "is a prior alone, which makes no images": """
        FluxPriorReduxPipeline KandinskyPriorPipeline KandinskyV22PriorEmb2EmbPipeline KandinskyV22PriorPipeline
        StableCascadePriorPipeline WuerstchenPriorPipeline""",
    "is a decoder alone, which needs its prior": """
        KandinskyPipeline KandinskyV22Pipeline StableCascadeDecoderPipeline WuerstchenDecoderPipeline""",
    "takes no prompt": """
        ConsistencyModelPipeline DDIMPipeline DDPMPipeline DiTPipeline KarrasVePipeline LDMPipeline PNDMPipeline
        ScoreSdeVePipeline""",
    "is three pipelines in one: save its text-to-image part as a folder": "VersatileDiffusionPipeline",
    "runs networks of ONNX, not of torch": "OnnxStableDiffusionPipeline StableDiffusionOnnxPipeline",
    "runs only with the safety checker of the package cosmos_guardrail": "Cosmos2TextToImagePipeline",
}
REFUSED: dict[str, str] = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
